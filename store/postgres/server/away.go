package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Away tells whether an error of Open or Check is one that passes by itself: nothing listens yet,
// the name is not known yet, the server starts, recovers, stops or has no connection free. A wrong
// password, a database that is not there and a certificate that is not trusted do not pass.
func Away(err error) bool {
	var reply *pgconn.PgError
	if errors.As(err, &reply) {
		return mayPass(reply.Code) || strings.HasPrefix(reply.Code, "08")
	}
	if distrusts(err) {
		return false
	}
	var dialled *pgconn.ConnectError
	var cut net.Error
	return errors.As(err, &dialled) || errors.As(err, &cut) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// distrusts tells whether the two could not agree about TLS.
func distrusts(err error) bool {
	var unverified *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var other x509.HostnameError
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" { // so crypto/tls says what the server says
		return true
	}
	return errors.As(err, &unverified) || errors.As(err, &unknown) || errors.As(err, &other) ||
		strings.Contains(err.Error(), "refused TLS")
}
