package node_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/node"
)

// openSecureStage starts a node with TLS. With askClients, clients need a certificate.
func openSecureStage(t *testing.T, ca *testenv.Authority, askClients bool) *stage {
	t.Helper()
	issued := ca.Issue(t, "node", "127.0.0.1", "localhost")
	files := auth.CertificateFiles{Certificate: issued.Certificate, Key: issued.Key}
	if askClients {
		files.ClientCA = ca.File
	}
	certificates, err := auth.LoadCertificates(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	return openStage(t, node.Config{Certificates: certificates})
}

// clientConfig returns the TLS configuration of a client. With a name, the client has a certificate.
func clientConfig(t *testing.T, ca *testenv.Authority, name string) *tls.Config {
	t.Helper()
	config := &tls.Config{RootCAs: ca.Pool, ServerName: "localhost"}
	if name != "" {
		issued := ca.Issue(t, name, name)
		pair, err := tls.LoadX509KeyPair(issued.Certificate, issued.Key)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// dialTLS opens a TLS connection to the stage.
func dialTLS(t *testing.T, s *stage, config *tls.Config) *tls.Conn {
	t.Helper()
	dialer := &net.Dialer{Timeout: patience}
	conn, err := tls.DialWithDialer(dialer, "tcp", s.addr, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestLinesWorkOverTLS(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	s := openSecureStage(t, ca, false)
	conn := dialTLS(t, s, clientConfig(t, ca, ""))
	in := bufio.NewReader(conn)
	for range 3 { // the connection is idle between the batches
		if _, err := io.WriteString(conn, `{"id":1,"action":"upper","payload":"hola"}`+"\n"); err != nil {
			t.Fatal(err)
		}
		line, err := in.ReadString('\n')
		if want := `{"id":1,"status":"done","result":{"ok":true,"data":"HOLA"}}` + "\n"; line != want || err != nil {
			t.Fatalf("%q, %v; want %q", line, err, want)
		}
	}
	var sent strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&sent, `{"id":%d,"action":"echo","payload":%q}`+"\n", i, strings.Repeat("x", i))
	}
	if _, err := io.WriteString(conn, sent.String()+`{"id":"slow","action":"sleep","payload":0.05}`); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(in)
	if err != nil || strings.Count(string(rest), `"ok":true`) != 1001 || !strings.Contains(string(rest), `{"id":"slow"`) {
		t.Errorf("after a half-close: %d results, %v", strings.Count(string(rest), `"ok":true`), err)
	}
}

func TestHTTPWorksOverTLS(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	s := openSecureStage(t, ca, false)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: clientConfig(t, ca, "")}, Timeout: patience}
	defer client.CloseIdleConnections()
	answer, err := client.Post("https://"+s.addr+"/v1/run", "application/json", strings.NewReader(`{"action":"fib","payload":10}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(body), `"fib":55`) {
		t.Errorf("%s %s, %v", answer.Status, body, err)
	}
}

func TestPlainTextIsRefusedOnATLSPort(t *testing.T) {
	t.Parallel()
	s := openSecureStage(t, testenv.NewAuthority(t), false)
	v := visit(t, s.addr)
	v.send(`{"id":1,"action":"upper","payload":"hola"}` + "\n")
	line, err := v.in.ReadString('\n')
	if err != nil || !strings.Contains(line, `"code":"forbidden"`) || !strings.Contains(line, "TLS") {
		t.Errorf("the reply to a line is %q, %v", line, err)
	}
	answer, err := http.Get("http://" + s.addr + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var problem struct{ Code, Detail string }
	if err := json.NewDecoder(answer.Body).Decode(&problem); err != nil || answer.StatusCode != http.StatusForbidden || problem.Code != "forbidden" {
		t.Errorf("the response to HTTP is %s %+v, %v", answer.Status, problem, err)
	}
}

func TestWithAnAuthorityForClientsOnlyItsClientsAreAccepted(t *testing.T) {
	t.Parallel()
	ca, otherCA := testenv.NewAuthority(t), testenv.NewAuthority(t)
	s := openSecureStage(t, ca, true)
	conn := dialTLS(t, s, clientConfig(t, ca, "web.example"))
	if _, err := io.WriteString(conn, `{"id":1,"op":"ping"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "pong") {
		t.Errorf("%q, %v", line, err)
	}
	foreign := clientConfig(t, otherCA, "web.example")
	foreign.RootCAs = ca.Pool
	for name, config := range map[string]*tls.Config{"nobody": clientConfig(t, ca, ""), "a client of another authority": foreign} {
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.addr, config)
		if err != nil {
			continue // TLS 1.2: the handshake fails at once
		}
		_, err = io.WriteString(conn, `{"id":1,"op":"ping"}`+"\n")
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
		conn.Close()
	}
}

func TestACertificateIdentifiesItsClient(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	s := openSecureStage(t, ca, true)
	conn := dialTLS(t, s, clientConfig(t, ca, "web.example"))
	if _, err := io.WriteString(conn, `{"id":1,"op":"auth","token":"any"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, `"name":"web.example"`) {
		t.Errorf("on lines: %q, %v", line, err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: clientConfig(t, ca, "web.example")}}
	defer client.CloseIdleConnections()
	socket, answer, err := websocket.Dial(t.Context(), "wss://"+s.addr+"/v1/socket", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	if answer.Body != nil {
		answer.Body.Close()
	}
	defer socket.CloseNow()
	if err := socket.Write(t.Context(), websocket.MessageText, []byte(`{"id":1,"op":"auth","token":"any"}`)); err != nil {
		t.Fatal(err)
	}
	if _, text, err := socket.Read(t.Context()); err != nil || !strings.Contains(string(text), `"name":"web.example"`) {
		t.Errorf("on a WebSocket: %q, %v", text, err)
	}
}

func TestACertificateDoesNotReplaceARequiredToken(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	issued := ca.Issue(t, "node", "localhost")
	certificates, err := auth.LoadCertificates(auth.CertificateFiles{Certificate: issued.Certificate, Key: issued.Key, ClientCA: ca.File}, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("ana 0123456789abcdef0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.LoadTokens(file)
	if err != nil {
		t.Fatal(err)
	}
	s := openStage(t, node.Config{Certificates: certificates, Tokens: tokens})
	conn := dialTLS(t, s, clientConfig(t, ca, "web.example"))
	if _, err := io.WriteString(conn, `{"id":1,"op":"info"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "unauthenticated") {
		t.Errorf("without the token: %q, %v", line, err)
	}
	conn = dialTLS(t, s, clientConfig(t, ca, "web.example"))
	if _, err := io.WriteString(conn, `{"id":1,"op":"auth","token":"0123456789abcdef0123"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, `"name":"ana"`) {
		t.Errorf("with the token: %q, %v", line, err)
	}
}

func TestADrainSendsGoawayOverTLS(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	s := openSecureStage(t, ca, false)
	spoken, silent := dialTLS(t, s, clientConfig(t, ca, "")), dialTLS(t, s, clientConfig(t, ca, ""))
	in := bufio.NewReader(spoken)
	if _, err := io.WriteString(spoken, `{"id":1,"op":"ping"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	s.stop()
	for name, in := range map[string]*bufio.Reader{"spoken": in, "silent": bufio.NewReader(silent)} {
		if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, `"status":"goaway"`) {
			t.Errorf("a client with %s got %q, %v", name, line, err)
		}
		if _, err := in.ReadString('\n'); err != io.EOF {
			t.Errorf("a client with %s: then %v, want EOF", name, err)
		}
	}
}

func TestAStalledHandshakeIsEnded(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	issued := ca.Issue(t, "node", "localhost")
	certificates, err := auth.LoadCertificates(auth.CertificateFiles{Certificate: issued.Certificate, Key: issued.Key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	config := node.Config{Certificates: certificates}
	config.Limits.LineTimeout = 5 * time.Second // enough for a handshake that does not stall
	s := openStage(t, config)
	v := visit(t, s.addr)
	v.send("\x16\x03\x01")
	if _, err := io.Copy(io.Discard, v.conn); err != nil {
		t.Errorf("the connection ended with %v, want EOF", err)
	}
	conn := dialTLS(t, s, clientConfig(t, ca, "")) // the next client is served
	if err := conn.HandshakeContext(context.Background()); err != nil {
		t.Error(err)
	}
}
