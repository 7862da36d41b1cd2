package chromium

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

func TestTheVendoredCheckerIsUnchanged(t *testing.T) {
	t.Parallel()
	const want = "cda5e4385d9437c1fd009f2ff76f7e4049af354d2d6522da2a905c2a69ede4ec"
	if sum := sha256.Sum256(axe); hex.EncodeToString(sum[:]) != want {
		t.Errorf("testdata/axe.min.js.gz has the sum %x", sum)
	}
}
