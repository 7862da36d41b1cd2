package rabbitmq

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

func TestAURLNamesServersCredentialsAndFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := testenv.NewAuthority(t)
	tests := map[string]struct {
		hosts, user, password, vhost string
		tls                          bool
	}{
		"amqp://localhost":                       {"localhost:5672", "guest", "guest", "/", false},
		"amqp://u:p%40q@h1,h2:5673,[::1]/work":   {"h1:5672 h2:5673 [::1]:5672", "u", "p@q", "work", false},
		"amqps://u@h/%2Fa?password-file=" + file: {"h:5671", "u", "s3cret", "/a", true},
		"amqps://u:x@h/?ca=" + ca.File:           {"h:5671", "u", "x", "/", true},
	}
	for text, want := range tests {
		w, err := parseURL(text)
		if err != nil || strings.Join(w.hosts, " ") != want.hosts || w.user != want.user || w.password != want.password || w.vhost != want.vhost || (w.tls != nil) != want.tls {
			t.Errorf("%s: %s %q, %v", text, w, w.user, err)
		}
		if printed := fmt.Sprintf("%v %+v %#v", w, w, w); strings.Contains(printed, want.password) && want.password != "x" && want.password != "guest" {
			t.Errorf("%s: the password is printed: %s", text, printed)
		}
	}
}

func TestPlainTextThatLeavesTheMachineIsKnown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"amqp://u@mq.example.org": true, "amqp://u@localhost,192.0.2.1": true, "amqps://u@mq.example.org": false,
		"amqp://u@localhost": false, "amqp://u@127.0.0.1:5673": false, "amqp://u@[::1]": false,
	} {
		if w, err := parseURL(text); err != nil || w.exposed() != want {
			t.Errorf("%s: exposed %t, %v", text, w.exposed(), err)
		}
	}
}

func TestAURLThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	for text, want := range map[string]string{
		"":                              "want amqp://",
		"http://localhost":              "want amqp://",
		"amqp://":                       "not HOST",
		"amqp://a,,b":                   "not HOST",
		"amqp://u:hunter2%zz@h":         "cannot be read",
		"amqp://u:hunter2@h/?ca=x":      "ca: ",
		"amqp://u:hunter2@h/?pass=x":    `unknown parameter`,
		"amqps://h/?password-file=none": "password-file: ",
		"amqps://h/?cert=" + ca.File:    "belong together",
		"amqps://h/?key=" + ca.File + "&cert=" + ca.File: "cert and key: ",
		"amqp://h/?cert=" + ca.File:                      "cert needs amqps",
	} {
		if _, err := parseURL(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
