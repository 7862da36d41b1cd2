package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// celeryProgram implements the protocol of this command.
//
//go:embed celery/peer.py
var celeryProgram string

// debianPython is the Python of the packages of Debian. Another one may be in the PATH.
const debianPython = "/usr/bin/python3"

// becomeCelery replaces this process by a Python process that runs the peer, so that both have the same process id.
// place has the addresses that the peer needs, separated by spaces: the broker and, if results are stored, the
// database.
func becomeCelery(ctx context.Context, place string, addresses int) error {
	given := strings.Fields(place)
	if len(given) != addresses {
		return fmt.Errorf("celery needs 'AMQP_URL POSTGRESQL_URL' in one argument, celery-bare AMQP_URL")
	}
	if out, err := exec.CommandContext(ctx, debianPython, "-c", "import celery, psycopg2, sqlalchemy").CombinedOutput(); err != nil {
		return fmt.Errorf("celery is not installed (scripts/setup-bench.sh installs it): %w\n%s", err, out)
	}
	return syscall.Exec(debianPython, append([]string{debianPython, "-c", celeryProgram}, given...), os.Environ())
}
