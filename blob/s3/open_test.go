package s3

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAURLSaysWhereTheBucketIs(t *testing.T) {
	t.Parallel()
	tests := map[string]Config{
		"s3://b":                                {Bucket: "b"},
		"s3://b/x/y/":                           {Bucket: "b", Prefix: "/x/y/"},
		"s3://b?endpoint=http://127.0.0.1:9000": {Bucket: "b", Endpoint: "127.0.0.1:9000", Plain: true},
		"s3://b?endpoint=https://s3.example/&region=eu-west-1&style=host&ca=x.pem": {Bucket: "b", Endpoint: "s3.example", Region: "eu-west-1", Host: true, CAFile: "x.pem"},
	}
	for text, want := range tests {
		got, err := ParseURL(text)
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) || err != nil {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestAURLThatIsNoneIsRefusedByItsPart(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"file://x":                        "s3://BUCKET",
		"s3:///x":                         "s3://BUCKET",
		"s3://key:secret@b":               "keys do not belong into a URL",
		"s3://b?endpoint=127.0.0.1:9000":  "want http://HOST:PORT",
		"s3://b?endpoint=http://h/path":   "want http://HOST:PORT",
		"s3://b?style=virtual":            "allowed are host and path",
		"s3://b?secret=hunter2":           `unknown parameter "secret"`,
		"s3://b\x7f?endpoint=http://h:80": "the URL cannot be read",
	} {
		if _, err := ParseURL(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestKeysComeFromTheEnvironmentOrFromFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("of-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keysOf := func(environment map[string]string) (Keys, error) {
		return EnvironmentKeys(func(name string) (string, bool) {
			value, ok := environment[name]
			return value, ok
		})()
	}
	got, err := keysOf(map[string]string{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY_FILE": file})
	if err != nil || got.Access != "a" || got.Secret != "of-a-file" {
		t.Errorf("access %q, secret %q, %v", got.Access, got.Secret, err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", got, got, got, got); strings.Contains(text, "of-a-file") {
		t.Errorf("the keys are told: %s", text)
	}
	if got, err := keysOf(nil); err != nil || got != (Keys{}) {
		t.Errorf("without any: %v", err)
	}
	if _, err := keysOf(map[string]string{"AWS_ACCESS_KEY_ID": "a"}); err == nil {
		t.Error("one of the two is enough")
	}
	if _, err := keysOf(map[string]string{"AWS_ACCESS_KEY_ID_FILE": file + "x"}); err == nil {
		t.Error("a missing file is passed over")
	}
}

func TestTheRegionIsTheEnvironments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{nil, ""}, {map[string]string{"AWS_REGION": "eu-west-3"}, "eu-west-3"}, {map[string]string{"AWS_DEFAULT_REGION": "sa-east-1"}, "sa-east-1"},
		{map[string]string{"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "sa-east-1"}, "eu-west-3"},
		{map[string]string{"AWS_REGION": "", "AWS_DEFAULT_REGION": "sa-east-1"}, "sa-east-1"},
	} {
		got := EnvironmentRegion(func(name string) (string, bool) { value, ok := c.env[name]; return value, ok })
		if got != c.want {
			t.Errorf("of %v it is %q, want %q", c.env, got, c.want)
		}
	}
}
