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

// celeryProgram speaks the protocol of this command by itself.
//
//go:embed celery/peer.py
var celeryProgram string

// debianPython is the Python that Debian's packages are made for; another one may be on the PATH.
const debianPython = "/usr/bin/python3"

// becomeCelery replaces this process by a Python that runs the peer, so that whoever freezes, kills or weighs the one
// has the other. The place is as many addresses as the peer needs, with spaces between them: the broker's and, where
// results are stored, the database's.
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
