// Package testenv provides tests with real programs. It reports missing ones, builds posta once, and starts and
// stops programs so that none is left running when a test ends, however it ends.
package testenv

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv/freeport"
)

// Check is the environment variable that make check sets to 1. Then every program that a test needs must be
// installed.
const Check = "POSTA_CHECK"

// Need skips the test if one of the programs is not installed. Under make check it fails the test instead. "nginx"
// means Nginx with its stream module.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if err := find(program); err != nil {
			missing(t, fmt.Sprintf("needs %s: %v (make setup installs it)", program, err))
		}
	}
}

// serverTime is about how long a test with a database or a broker takes.
const serverTime = 10 * time.Second

// NeedTime skips a test that takes long, except under make check.
func NeedTime(t testing.TB, about time.Duration) {
	t.Helper()
	if os.Getenv(Check) != "1" {
		t.Skipf("needs %v: %s=1 runs it", about, Check)
	}
}

// NeedServer skips a test that runs a real server, except under make check. Then the programs must be installed.
func NeedServer(t testing.TB, programs ...string) {
	t.Helper()
	if os.Getenv(Check) != "1" {
		t.Skipf("needs %s to run: %s=1 runs it", strings.Join(programs, ", "), Check)
	}
	Need(t, programs...)
}

// Overlap sets how many parallel tests of this process run at a time, unless -parallel does. It is for packages
// whose tests mostly wait. Call it before they run.
func Overlap(tests int) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if asked {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(tests)); err != nil {
		panic(err) // the flag does not exist: this is not a test
	}
}

func missing(t testing.TB, message string) {
	t.Helper()
	if os.Getenv(Check) == "1" {
		t.Fatal(message)
	}
	t.Skip(message)
}

// find returns why a program cannot be used, or nil.
func find(program string) error {
	path, err := locate(program)
	if err != nil {
		return err
	}
	if program != "nginx" {
		return nil
	}
	config := fmt.Sprintf("%s\nevents {}\nstream {}\n", nginxModules)
	file, err := os.CreateTemp("", "posta-nginx-*.conf")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := file.WriteString(config); err != nil {
		return err
	}
	out, err := exec.Command(path, "-t", "-q", "-e", "stderr", "-c", file.Name()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("its stream module does not load: %s", firstLine(string(out)))
	}
	return nil
}

// locate is exec.LookPath, but it also finds servers in folders that may not be in the PATH, and programs that make
// builds.
func locate(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	folders := []string{"/usr/sbin", "/usr/local/sbin", "/sbin"}
	if root, err := FindRoot(); err == nil {
		folders = append(folders, filepath.Join(root, "build"))
	}
	for _, folder := range folders {
		if found, err := exec.LookPath(filepath.Join(folder, program)); err == nil {
			return found, nil
		}
	}
	return "", err
}

// nginxModules loads the modules of Nginx like the printed configuration.
const nginxModules = `pid /tmp/posta-nginx-probe.pid;
include /etc/nginx/modules-enabled/*.conf;
include /usr/share/nginx/modules/*.conf;
include /etc/nginx/modules/*.conf;`

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// build builds the binary of this repository once in a test process.
var build = sync.OnceValues(func() (string, error) { return compile("./cmd/posta", "posta") })

// BinaryFolder returns the folder for binaries that tests build. It is in the cache of the user, where the go
// command finds binaries of the last run. Each copy of the repository has its own folder, so that two copies can be
// tested at the same time.
func BinaryFolder() (string, error) {
	root, err := FindRoot()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, "posta-test", strings.ReplaceAll(root, string(filepath.Separator), "_"))
	return folder, os.MkdirAll(folder, 0o700)
}

// compile builds the program in a folder of the repository in BinaryFolder.
func compile(folder, name string) (string, error) {
	root, err := FindRoot()
	if err != nil {
		return "", err
	}
	place, err := BinaryFolder()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(place, name)
	command := exec.Command("go", "build", "-o", binary, folder)
	command.Dir = root
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", command.Args, err, out)
	}
	return binary, nil
}

// Posta returns the path of the posta binary, built from the current tree.
func Posta(t testing.TB) string {
	t.Helper()
	return built(t, build)
}

// Program returns the path of the program in a folder of the repository, such as ./examples/embed, built from the
// current tree.
func Program(t testing.TB, folder string) string {
	t.Helper()
	name := strings.ReplaceAll(strings.TrimPrefix(folder, "./"), "/", "-")
	return built(t, func() (string, error) { return compile(folder, name) })
}

func built(t testing.TB, build func() (string, error)) string {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// Root returns the directory of the repository.
func Root(t testing.TB) string {
	t.Helper()
	root, err := FindRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// FindRoot searches for the directory of the repository from the working directory upwards: the one with the go.mod
// of the product. The other modules of the repository are below it.
func FindRoot() (string, error) {
	const product = "module github.com/posta-tasks/posta\n"
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), product) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the working directory is not in a copy of the repository")
		}
		dir = parent
	}
}

// FreeAddr returns an address on loopback that no program listens on, for programs that cannot use port 0 or must
// come back on the same port. It is reserved for this process until it ends.
func FreeAddr(t testing.TB) string {
	t.Helper()
	addr, err := freeport.Take()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// Eventually calls check until it returns nil. After limit it fails the test with the last error.
func Eventually(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	const pause = 10 * time.Millisecond
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", limit, err)
		}
		<-time.After(pause)
	}
}

// Accepts is a check for Eventually: a program listens on addr.
func Accepts(addr string) func() error {
	return func() error {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}
