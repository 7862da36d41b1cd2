package cli

import (
	"strings"
	"testing"
)

// TestNoErrorTellsAPassword starts nodes with URLs that are wrong in many ways.
func TestNoErrorTellsAPassword(t *testing.T) {
	t.Parallel()
	const secret = "s3cret-of-mine"
	for _, env := range []string{
		"POSTA_STORE=mysql://u:" + secret + "@h/d",
		"POSTA_STORE=postgres://u:" + secret + "@127.0.0.1:port/d",
		"POSTA_STORE=postgres://u:" + secret + "%zz@127.0.0.1:1/d",
		"POSTA_STORE=postgres://u:" + secret + "@127.0.0.1:1/d?sslmode=perhaps",
		"POSTA_STORE=postgres://u:pass/" + secret + "@127.0.0.1:1/d",
		"POSTA_STORE=postgres://u@127.0.0.1:1/d?password=" + secret + "&sslmode=perhaps",
	} {
		got := typeIn(t, "", []string{env}, "node", "--listen", "127.0.0.1:0")
		if got.code == 0 || strings.Contains(got.stdout+got.stderr, secret) {
			t.Errorf("%s: exit code %d, %s", env, got.code, got.stderr)
		}
	}
	for _, env := range []string{
		"POSTA_BROKER=kafka://u:" + secret + "@h", "POSTA_BLOBS=gs://u:" + secret + "@bucket", "POSTA_BLOBS=s3://key:" + secret,
		"POSTA_BLOBS=s3://key:" + secret + "@bucket", "POSTA_BLOBS=s3://bucket?endpoint=http://key:" + secret + "@h",
		"POSTA_BLOBS=s3://key:%zz" + secret + "@bucket",
	} {
		got := typeIn(t, "", []string{env, "POSTA_STORE=sqlite://" + t.TempDir() + "/posta.db"}, "node", "--listen", "127.0.0.1:0")
		if got.code == 0 || strings.Contains(got.stdout+got.stderr, secret) {
			t.Errorf("%s: exit code %d, %s", env, got.code, got.stderr)
		}
	}
	for _, mistyped := range []string{
		"postgres:u:" + secret + "@h/d", "postgres//u:" + secret + "@h/d", "u:" + secret + "@h/d", "postgres:/u:" + secret + "@h/d",
		"amqp//u:" + secret + "@h", "amqp:u:" + secret + "@h", "//u:" + secret + "@h", "host=h password=" + secret, "posgres://h/d?password=" + secret,
	} {
		for _, env := range [][]string{
			{"POSTA_STORE=" + mistyped}, {"POSTA_BROKER=" + mistyped, "POSTA_STORE=sqlite://" + t.TempDir() + "/posta.db"},
			{"POSTA_BLOBS=" + mistyped, "POSTA_STORE=sqlite://" + t.TempDir() + "/posta.db"},
		} {
			for _, args := range [][]string{{"node", "--listen", "127.0.0.1:0"}, {"backup", t.TempDir() + "/to"}, {"doctor", "--to", "127.0.0.1:1"}} {
				if got := typeIn(t, "", env, args...); got.code == 0 || strings.Contains(got.stdout+got.stderr, secret) {
					t.Errorf("%s %s: exit code %d, %s%s", env, args, got.code, got.stdout, got.stderr)
				}
			}
		}
	}
	for _, from := range []string{"postgres://u:" + secret + "@h/d"} {
		if got := typeIn(t, "", []string{"POSTA_STORE=" + from}, "backup", t.TempDir()+"/to"); got.code == 0 || strings.Contains(got.stderr, secret) {
			t.Errorf("backup of %s: exit code %d, %s", from, got.code, got.stderr)
		}
	}
}

// TestNoAddressOrSurplusWordTellsAPassword passes URLs where addresses, directories and nothing are wanted.
func TestNoAddressOrSurplusWordTellsAPassword(t *testing.T) {
	t.Parallel()
	const secret = "s3cret-of-mine"
	for _, url := range []string{"https://u:" + secret + "@h", "https://u:" + secret + "@h:9000", "u:" + secret + "@h", "postgres://u:" + secret + "@h/y"} {
		for _, args := range [][]string{
			{"run", "upper", "--to", url}, {"run", "upper", "--to=" + url}, {"bench", "--to", url}, {"doctor", "--to", url}, {"doctor", "--listen", url},
			{"node", "--listen", url}, {"up", "--listen", url}, {"up", "--nodes", url}, {"balancer", "run", "--node", "127.0.0.1:1", "--listen", url},
			{"balancer", "run", "--node", url}, {"balancer", "nginx", "--node", "127.0.0.1:1," + url}, {"balancer", "haproxy", "--node", url},
			{"node", url}, {"copy", "a", "b", url}, {"run", "upper", "x", url}, {url}, {"backup", url}, {"up", "--data", url, "--listen", "127.0.0.1:0", "--nodes", "127.0.0.1:0"},
			{"doctor", "--data", url}, {"node", "--token-file", url},
		} {
			if got := typeIn(t, "", nil, args...); got.code == 0 || strings.Contains(got.stdout+got.stderr, secret) {
				t.Errorf("%s: exit code %d, %s%s", args, got.code, got.stdout, got.stderr)
			}
		}
		for _, c := range []struct {
			env  string
			args []string
		}{
			{"POSTA_TO=" + url, []string{"list"}}, {"POSTA_LISTEN=" + url, []string{"node"}},
			{"POSTA_NODE=" + url, []string{"balancer", "haproxy"}}, {"POSTA_NODE=" + url, []string{"balancer", "run"}},
		} {
			if got := typeIn(t, "", []string{c.env}, c.args...); got.code == 0 || strings.Contains(got.stdout+got.stderr, secret) {
				t.Errorf("%s %s: exit code %d, %s%s", c.env, c.args, got.code, got.stdout, got.stderr)
			}
		}
	}
}
