package examples_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// TestEachWorkerOnAPipeGreets starts each one-file worker with posta node --worker.
func TestEachWorkerOnAPipeGreets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file    string
		program string
		needs   []string
	}{
		{"worker.py", "python3", nil},
		{"worker.js", "node", nil},
		{"worker.sh", "sh", []string{"jq"}},
		{"worker.rb", "ruby", nil},
		{"worker.php", "php", nil},
		{"worker.pl", "perl", nil},
		{"worker.lua", "lua5.4", nil},
		{"worker.tcl", "tclsh", nil},
		{"worker.c", "", []string{"gcc"}},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			testenv.NeedServer(t, c.needs...)
			path := filepath.Join("workers", c.file)
			command := c.program + " " + path
			if c.program == "" {
				command = filepath.Join(t.TempDir(), "worker")
				if out, err := exec.Command("gcc", "-Wall", "-Wextra", "-Werror", "-o", command, path, "-ljansson").CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			} else {
				testenv.Need(t, c.program)
			}
			addr := testenv.FreeAddr(t)
			served := testenv.Node(t, addr, "--name", "n", "--store", "sqlite://"+filepath.Join(t.TempDir(), "posta.db"), "--worker", command, "--drain-delay", "0s")
			greet(t, addr)
			served.Signal(syscall.SIGTERM)
			if code := served.Wait(t, patience); code != 0 || !strings.Contains(served.Output(), `"how":"exit status 0"`) {
				t.Errorf("after SIGTERM the node ended with %d:\n%s", code, served.Output())
			}
		})
	}
}

// greet sends tasks to the worker that has the action greet.
func greet(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	type person struct {
		Name any `json:"name,omitempty"`
	}
	const name = "Åsa \"é\\\n\t漢字 </x>"
	accepted, err := c.Enqueue(ctx, "greet", person{name}, client.EnqueueOptions{}) // it waits for the worker
	if err != nil {
		t.Fatal(err)
	}
	record, err := c.Wait(ctx, accepted.Task)
	if err != nil {
		t.Fatal(err)
	}
	var text string
	if err := record.Result.Data(&text); err != nil || text != "hello "+name || !strings.HasPrefix(record.Worker, "n-worker") {
		t.Errorf("a durable task: %q, %v, of worker %s", text, err, record.Worker)
	}
	for i := range 50 {
		result, err := c.Run(ctx, "greet", person{fmt.Sprint("Ana ", i)})
		if err != nil {
			t.Fatal(err)
		}
		if err := result.Data(&text); err != nil || text != fmt.Sprint("hello Ana ", i) {
			t.Errorf("a direct run: %q, %v", text, err)
		}
	}
	for _, payload := range []any{person{}, nil, []int{1}, 7, "Ana"} {
		var failed *client.ActionError
		if result, err := c.Run(ctx, "greet", payload); !errors.As(err, &failed) || failed.Message != "there is no name" {
			t.Errorf("greet %v: %+v, %v", payload, result, err)
		}
	}
	accepted, err = c.Enqueue(ctx, "greet", nil, client.EnqueueOptions{MaxAttempts: 3})
	if err != nil {
		t.Fatal(err)
	}
	if record, err := c.Wait(ctx, accepted.Task); err != nil || record.State != task.Failed || record.Attempt != 1 || record.Error != "there is no name" {
		t.Errorf("a task without a name: %+v, %v", record, err)
	}
}
