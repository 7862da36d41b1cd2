package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// canary is the password and the secret of the servers of this file, to be found nowhere.
const canary = "canary-5d1f"

// elsewhere is a name of this machine that counts as another's, since nobody spells it so.
const elsewhere = "LocalHost"

// outward are the servers that a node connects to inside TLS.
type outward struct {
	ca            *testenv.Authority
	own, foreign  testenv.Issued // certificates of ours
	db, rabbit    string         // HOST:PORT without the host
	s3            *testenv.S3Server
	store, broker string // URLs that work
	blobs         string
	environ       []string
}

func startOutward(t *testing.T) *outward {
	t.Helper()
	ca := testenv.NewAuthority(t)
	o := &outward{
		ca: ca, own: ca.Issue(t, "card"), foreign: testenv.NewAuthority(t).Issue(t, "card"),
		db:     portOf(t, testenv.StartPostgresTLS(t, ca, canary).Addr()),
		rabbit: portOf(t, testenv.RabbitMQTLS(t, ca, canary).Secure),
		s3:     testenv.S3TLS(t, ca, canary),
	}
	o.s3.Bucket(t, "bodies")
	o.store = "postgres://posta:" + canary + "@localhost" + o.db + "/postgres?sslmode=verify-full&sslrootcert=" + ca.File
	o.broker = "amqps://posta:" + canary + "@localhost" + o.rabbit + "/?ca=" + ca.File + "&cert=" + o.own.Certificate + "&key=" + o.own.Key
	o.blobs = "s3://bodies?endpoint=" + o.s3.Endpoint + "&ca=" + ca.File
	o.environ = []string{"AWS_ACCESS_KEY_ID=" + o.s3.Access, "AWS_SECRET_ACCESS_KEY=" + o.s3.Secret}
	return o
}

// portOf returns :PORT.
func portOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return ":" + port
}

// node starts a node with secrets in its environment.
func (o *outward) node(t *testing.T, addr, store, broker, blobs string) *testenv.Process {
	t.Helper()
	command := exec.Command(testenv.Posta(t), "node", "--listen", addr, "--drain-delay", "0s", "--log-level", "debug")
	command.Env = append(command.Environ(), append(o.environ, "POSTA_STORE="+store, "POSTA_BROKER="+broker, "POSTA_BLOBS="+blobs)...)
	return testenv.StartCommand(t, command)
}

// waited waits for a task's end, and no longer than a test may.
func waited(t *testing.T, c *client.Client, id string) (client.Record, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clusterPatience)
	defer cancel()
	return c.Wait(ctx, id)
}

// TestConnectionsOutAreVerified has nodes connect to a real PostgreSQL, RabbitMQ and S3 server inside
// TLS. Each way of not knowing the server is refused, and tells no secret.
func TestConnectionsOutAreVerified(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "versitygw", "rabbitmqctl")
	o := startOutward(t)
	t.Run("all together", o.workInsideTLS)
	t.Run("PostgreSQL", o.storeIsVerified)
	t.Run("RabbitMQ", o.brokerIsVerified)
	t.Run("S3", o.blobsAreVerified)
}

// workInsideTLS works a task whose body is large: all three are in use.
func (o *outward) workInsideTLS(t *testing.T) {
	addr := testenv.FreeAddr(t)
	p := o.node(t, addr, o.store, o.broker, o.blobs)
	testenv.Eventually(t, clusterPatience, testenv.Accepts(addr))
	testenv.Eventually(t, clusterPatience, func() error { // both connections of the broker
		if n := strings.Count(p.Output(), "connected to the broker"); n < 2 {
			return fmt.Errorf("%d connections to the broker:\n%s", n, p.Output())
		}
		return nil
	})
	c := clientOf(t, addr)
	payload := strings.Repeat("x", 300<<10)
	id := enqueued(t, c, "upper", payload, client.EnqueueOptions{})
	done, err := waited(t, c, id)
	if err != nil || !strings.Contains(done.Result.String(), strings.ToUpper(payload)) {
		t.Errorf("the task is %q, %v", done.State, err)
	}
	if strings.Contains(p.Output(), canary) {
		t.Error("the log has the secret in it")
	}
}

func (o *outward) storeIsVerified(t *testing.T) {
	at := func(user, host, parameters string) string {
		return "postgres://" + user + "@" + host + o.db + "/postgres?" + parameters
	}
	known, secret := "sslrootcert="+o.ca.File, "posta:"+canary
	with := func(c testenv.Issued) string { return "&sslcert=" + c.Certificate + "&sslkey=" + c.Key }
	for name, c := range map[string]struct{ url, refusal string }{ // no refusal: it works
		"an unknown authority":                         {at(secret, "localhost", "sslmode=verify-full"), "unknown authority"},
		"a server elsewhere, and nothing said":         {at(secret, elsewhere, ""), "unknown authority"},
		"a server elsewhere of a known authority":      {at(secret, elsewhere, known), ""},
		"another name":                                 {at(secret, "127.0.0.1", "sslmode=verify-full&"+known), "cannot validate certificate for 127.0.0.1"},
		"another name, and only the authority matters": {at(secret, "127.0.0.1", "sslmode=verify-ca&"+known), ""},
		"plain text to a server that wants TLS":        {at(secret, "127.0.0.1", "sslmode=disable"), "no encryption"},
		"a wrong password":                             {at("posta:wrong-"+canary, "localhost", "sslmode=verify-full&"+known), "password authentication failed"},
		"a certificate for a password":                 {at("card", "localhost", "sslmode=verify-full&"+known+with(o.own)), ""},
		"no certificate where one is asked for":        {at("card:"+canary, "localhost", "sslmode=verify-full&"+known), "certificate"},
		"a certificate of somebody else's authority":   {at("card", "localhost", "sslmode=verify-full&"+known+with(o.foreign)), "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := testenv.FreeAddr(t)
			p := o.node(t, addr, c.url, "", "file://"+filepath.Join(t.TempDir(), "blobs"))
			if c.refusal == "" {
				testenv.Eventually(t, clusterPatience, testenv.Accepts(addr))
				nc := clientOf(t, addr)
				id := enqueued(t, nc, "upper", "hola", client.EnqueueOptions{})
				if done, err := waited(t, nc, id); err != nil || !strings.Contains(done.Result.String(), "HOLA") {
					t.Errorf("the task is %q, %v", done.State, err)
				}
			} else if code := p.Wait(t, clusterPatience); code == 0 || !strings.Contains(p.Output(), c.refusal) {
				t.Errorf("exit code %d, want a refusal with %q:\n%s", code, c.refusal, p.Output())
			}
			if strings.Contains(p.Output(), canary) {
				t.Errorf("the password is in the output:\n%s", p.Output())
			}
		})
	}
}

func (o *outward) brokerIsVerified(t *testing.T) {
	at := func(host, parameters string) string {
		return "amqps://posta:" + canary + "@" + host + o.rabbit + "/?" + parameters
	}
	own, known := "cert="+o.own.Certificate+"&key="+o.own.Key, "&ca="+o.ca.File
	for name, c := range map[string]struct{ url, said string }{
		"an unknown authority":                        {at("localhost", own), "unknown authority"},
		"another name":                                {at("127.0.0.1", own+known), "cannot validate certificate for 127.0.0.1"},
		"no certificate where one is asked for":       {at("localhost", known[1:]), "certificate required"},
		"a certificate of somebody else's authority":  {at("localhost", "cert="+o.foreign.Certificate+"&key="+o.foreign.Key+known), "unknown certificate authority"},
		"a wrong password":                            {strings.Replace(at("localhost", own+known), ":"+canary, ":wrong-"+canary, 1), "username or password not allowed"},
		"plain text to a port with TLS":               {strings.Replace(at("localhost", ""), "amqps", "amqp", 1), "needs is away"},
		"plain text that leaves the machine":          {strings.Replace(at(elsewhere, ""), "amqps", "amqp", 1), "plain text, including the password"},
		"a server elsewhere, of an authority we know": {at(elsewhere, own+known), "connected to the broker"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := o.node(t, testenv.FreeAddr(t), o.store, c.url, "")
			testenv.Eventually(t, clusterPatience, func() error {
				if !strings.Contains(p.Output(), c.said) {
					return fmt.Errorf("nothing of %q:\n%s", c.said, p.Output())
				}
				return nil
			})
			if connected := strings.Contains(p.Output(), "connected to the broker"); connected != strings.Contains(c.said, "connected") {
				t.Errorf("connected: %t", connected)
			}
			if strings.Contains(p.Output(), canary) {
				t.Errorf("the password is in the output:\n%s", p.Output())
			}
		})
	}
}

func (o *outward) blobsAreVerified(t *testing.T) {
	for name, url := range map[string]string{
		"an unknown authority":          strings.TrimSuffix(o.blobs, "&ca="+o.ca.File),
		"another name":                  strings.Replace(o.blobs, "localhost", "127.0.0.1", 1),
		"plain text to a port with TLS": strings.Replace(o.blobs, "https", "http", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := testenv.FreeAddr(t)
			p := o.node(t, addr, "sqlite://"+filepath.Join(t.TempDir(), "posta.db"), "", url)
			testenv.Eventually(t, clusterPatience, testenv.Accepts(addr))
			_, err := clientOf(t, addr).Enqueue(t.Context(), "upper", strings.Repeat("x", 300<<10), client.EnqueueOptions{})
			var refused *task.Error
			if !errors.As(err, &refused) || refused.Code != task.Unavailable {
				t.Errorf("a body that cannot be stored: %v", err)
			}
			if told := p.Output() + fmt.Sprint(err); strings.Contains(told, canary) {
				t.Errorf("the secret is told:\n%s", told)
			}
		})
	}
}
