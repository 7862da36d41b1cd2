package main

import (
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
// has the other. The place is the broker's address and, unless results are not to be stored, the database's, with a
// space between them.
func becomeCelery(place string, results bool) error {
	addresses := strings.Fields(place)
	if want := map[bool]int{true: 2, false: 1}[results]; len(addresses) < want {
		return fmt.Errorf("celery needs 'AMQP_URL POSTGRESQL_URL' in one argument, celery-bare 'AMQP_URL'")
	} else {
		addresses = addresses[:want]
	}
	if out, err := exec.Command(debianPython, "-c", "import celery, psycopg2, sqlalchemy").CombinedOutput(); err != nil {
		return fmt.Errorf("celery is not installed (scripts/setup-bench.sh installs it): %w\n%s", err, out)
	}
	args := append([]string{debianPython, "-c", celeryProgram}, addresses...)
	return syscall.Exec(debianPython, args, os.Environ())
}
