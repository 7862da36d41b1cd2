package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

// TestTheDoctorLooksAtRealServers asks a whole cluster's worth of them, then takes one away after the other.
func TestTheDoctorLooksAtRealServers(t *testing.T) {
	t.Parallel()
	db, rabbit, bucket := testenv.StartPostgres(t, "fsync=off"), testenv.RabbitMQ(t), testenv.S3(t)
	bucket.Bucket(t, "bodies")
	env := []string{
		"POSTA_STORE=" + db.URL(), "POSTA_BROKER=" + rabbit.URL, "POSTA_BLOBS=s3://bodies?endpoint=" + bucket.Endpoint,
		"AWS_ACCESS_KEY_ID=" + bucket.Access, "AWS_SECRET_ACCESS_KEY=" + bucket.Secret,
	}
	says := func(code int, lines ...string) {
		t.Helper()
		got := typeIn(t, "", env, "doctor")
		if got.code != code {
			t.Errorf("exit code %d, not %d:\n%s%s", got.code, code, got.stdout, got.stderr)
		}
		flat := strings.Join(strings.Fields(got.stdout), " ")
		for _, line := range lines {
			if !strings.Contains(flat, line) {
				t.Errorf("it does not say %q:\n%s", line, got.stdout)
			}
		}
	}
	says(0,
		"ok store PostgreSQL 1", "ok store schema there is no schema yet", "ok store clock", "ok store rights",
		"warning store safety fsync is off", "ok store room a node opens up to 12 connections",
		"ok blobs the bucket answers", "ok blobs clock", "ok blobs rights",
		"ok broker RabbitMQ 3.", "ok broker rights", "ok broker speed it confirms a message after",
	)
	addr := testenv.FreeAddr(t)
	node := testenv.Node(t, addr, "--store", db.URL(), "--broker", rabbit.URL, "--log-level", "error", "--drain-delay", "0s")
	says(0, "ok store schema it has version")
	if got := typeIn(t, "", nil, "doctor", "--to", addr); got.code != 0 || !strings.Contains(got.stdout, "this address leads to each of 1 node") {
		t.Errorf("the node that runs: exit code %d\n%s", got.code, got.stdout)
	}
	node.Signal(os.Interrupt)
	node.Wait(t, patience)

	rabbit.Kill(t)
	says(1, "wrong broker 127.0.0.1:", "ok store PostgreSQL")
	db.Stop()
	says(1, "wrong store the database cannot be reached")
	bucket.Kill(t)
	says(1, "wrong blobs make an object")
}

// TestTheDoctorLooksAtAFileThatIsNone has text where a database should be.
func TestTheDoctorLooksAtAFileThatIsNone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "posta.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("no database at all\n", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	got := typeIn(t, "", nil, "doctor", "--store", "sqlite://"+path)
	if flat := strings.Join(strings.Fields(got.stdout), " "); got.code != 1 || !strings.Contains(flat, "wrong store file it cannot be read") {
		t.Errorf("exit code %d:\n%s", got.code, got.stdout)
	}
}

// TestTheDoctorFindsNodesThatShareAName starts two nodes of one name on one database, behind the balancer.
func TestTheDoctorFindsNodesThatShareAName(t *testing.T) {
	t.Parallel()
	db := testenv.StartPostgres(t)
	one, two, front := testenv.FreeAddr(t), testenv.FreeAddr(t), testenv.FreeAddr(t)
	for _, addr := range []string{one, two} {
		testenv.Node(t, addr, "--name", "n1", "--store", db.URL(), "--drain-delay", "0", "--log-level", "error")
	}
	testenv.Start(t, testenv.Posta(t), "balancer", "run", "--listen", front, "--node", one, "--node", two)
	testenv.Eventually(t, patience, func() error { // the balancer knows both nodes after its first checks
		got := typeIn(t, "", nil, "doctor", "--to", front)
		if flat := strings.Join(strings.Fields(got.stdout), " "); !strings.Contains(flat, "wrong node names 2 processes answer here, but the store knows only 1 node: n1") {
			return errors.New(got.stdout + got.stderr)
		}
		return nil
	})
}
