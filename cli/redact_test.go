package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
)

func TestAPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"postgres://posta:s3cret@db:5432/posta?sslmode=require":  "postgres://posta:…@db:5432/posta?sslmode=require",
		"amqp://u:s3/cr@et@a:5672,b:5672/v":                      "amqp://u:…@a:5672,b:5672/v",
		"postgres://posta@db/posta":                              "postgres://posta@db/posta",
		"postgres://:s3cret@db":                                  "postgres://:…@db",
		"sqlite://a:b/c":                                         "sqlite://a:b/c",
		"s3://bucket?endpoint=http://127.0.0.1:7070":             "s3://bucket?endpoint=http://127.0.0.1:7070",
		"postgres:u:s3cret@h/db":                                 "postgres:u:…@h/db",
		"postgres:/u:s3cret@h/db":                                "postgres:/u:…@h/db",
		"postgres:///u:s3cret@h/db":                              "postgres:///u:…@h/db",
		"postgres:s3cret@h/db":                                   "postgres:…@h/db",
		"amqp//u:s3cret@h":                                       "amqp//u:…@h",
		"//u:s3cret@h":                                           "//u:…@h",
		"u:s3cret@h":                                             "u:…@h",
		"amqps:u@h":                                              "amqps:…@h",
		"postgres://h/db?user=u&password=s3cret&sslmode=require": "postgres://h/db?user=u&password=…&sslmode=require",
		"postgres://h/db?PASSWORD=s3cret":                        "postgres://h/db?PASSWORD=…",
		"host=h user=u password=s3cret dbname=d":                 "host=h user=u password=… dbname=d",
		"host=h password='s3 cret' dbname=d":                     "host=h password=… dbname=d",
		"s3://b?secret_access_key=s3cret":                        "s3://b?secret_access_key=…",
		"amqp://u@h/?password-file=/etc/password":                "amqp://u@h/?password-file=/etc/password",
		"": "",
	} {
		if got := redacted(url); got != want {
			t.Errorf("%s is shown as %s, want %s", url, got, want)
		}
	}
}

func TestAPasswordOnTheCommandLineIsWarnedOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args, env []string
		warned    bool
	}{
		{[]string{"--store", "postgres://u:s3cret@db/x"}, nil, true},
		{[]string{"--store", "postgres://u@db/x"}, nil, false},
		{nil, []string{"POSTA_STORE=postgres://u:s3cret@db/x"}, false},
	} {
		var stderr bytes.Buffer
		cmd := &cobra.Command{Use: "node", RunE: func(*cobra.Command, []string) error { return nil }}
		cmd.Flags().String("store", "", "the `URL`")
		withVariables(&terminal.Outside{Stderr: &stderr, Env: c.env}, cmd)
		cmd.SetArgs(c.args)
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		output := stderr.String()
		if strings.Contains(output, "POSTA_STORE") != c.warned || strings.Contains(output, "s3cret") {
			t.Errorf("%v %v: output %q", c.args, c.env, output)
		}
	}
}
