package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// S3Server is a private, empty S3 server.
type S3Server struct {
	*Process
	Endpoint       string // http://HOST:PORT, or https:// for S3TLS
	Access, Secret string

	addr, folder string
	arguments    []string
}

// S3 starts a server, which is stopped at the end of the test.
func S3(t testing.TB) *S3Server {
	t.Helper()
	return startS3(t, "posta-secret", nil)
}

// S3TLS starts a server that speaks TLS, with a certificate of the authority for localhost but no address.
func S3TLS(t testing.TB, ca *Authority, secret string) *S3Server {
	t.Helper()
	issued := ca.Issue(t, "s3", "localhost")
	s := startS3(t, secret, []string{"--cert", issued.Certificate, "--key", issued.Key})
	s.Endpoint = "https://localhost:" + port(t, s.addr)
	return s
}

func startS3(t testing.TB, secret string, arguments []string) *S3Server {
	t.Helper()
	NeedServer(t, "versitygw")
	s := &S3Server{Access: "posta", Secret: secret, addr: FreeAddr(t), folder: t.TempDir(), arguments: arguments}
	s.Endpoint = "http://" + s.addr
	for _, part := range []string{"objects", "meta"} {
		if err := os.Mkdir(filepath.Join(s.folder, part), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.Again(t)
	return s
}

// Bucket creates a bucket, which is a folder of this server.
func (s *S3Server) Bucket(t testing.TB, name string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(s.folder, "objects", name), 0o700); err != nil {
		t.Fatal(err)
	}
}

// Again starts the server again with its data after it was stopped.
func (s *S3Server) Again(t testing.TB) {
	t.Helper()
	path, err := locate("versitygw")
	if err != nil {
		t.Fatal(err)
	}
	// Not every file system supports extended attributes, so they are stored in files. Connections are not kept
	// alive, since this server takes the rest of the body of a refused request for the next request.
	arguments := append([]string{"--port", s.addr, "--quiet"}, s.arguments...)
	command := exec.Command(path, append(arguments,
		"posix", "--sidecar", filepath.Join(s.folder, "meta"), filepath.Join(s.folder, "objects"))...)
	command.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.Access, "ROOT_SECRET_KEY="+s.Secret)
	s.Process = StartCommand(t, command)
	s.await(t, s.addr)
}
