package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// remedy is what helps against an error of the database.
type remedy int

const (
	none        remedy = iota // nothing: the statement or its parameters are wrong
	repeat                    // the server has rolled back a call that may succeed when it is repeated
	wait                      // the error is temporary
	reconfigure               // an operator must change something; waiting does not help
)

// fault is the meaning of an error of the database.
type fault struct {
	remedy  remedy
	problem string // what is wrong; only with reconfigure
	fix     string // what to change; only with reconfigure
}

// classify returns the meaning of an error of the database or of the connection to it.
func classify(err error) fault {
	var reply *pgconn.PgError
	if errors.As(err, &reply) {
		return classifyReply(reply)
	}
	if isTLSFailure(err) {
		return fault{reconfigure, "the TLS handshake between this node and the database failed",
			"sslrootcert=FILE names the authority of its certificate; sslmode=disable is for a server without TLS on a network that you trust"}
	}
	var dialled *pgconn.ConnectError
	var cut net.Error
	switch {
	case errors.As(err, &dialled), errors.As(err, &cut), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF),
		errors.Is(err, context.DeadlineExceeded):
		return fault{remedy: wait}
	}
	return fault{}
}

// classifyReply classifies an error of the server by its SQLSTATE, whose first two characters are the class.
func classifyReply(reply *pgconn.PgError) fault {
	if reply.Code == "08P01" {
		return classifyPooler(reply.Message)
	}
	for _, known := range replies() {
		if strings.HasPrefix(reply.Code, known.code) {
			return known.fault
		}
	}
	return fault{}
}

type knownReply struct {
	code string
	fault
}

// replies returns the known SQLSTATEs. A complete code comes before its class.
func replies() []knownReply {
	const pooler = "add pgbouncer=true to the store's URL, so that the node uses no prepared statements"
	return []knownReply{
		{"40001", fault{remedy: repeat}}, {"40P01", fault{remedy: repeat}}, // a serialization failure, a deadlock
		{"25006", fault{remedy: wait}}, // the server has become a standby
		{"08004", fault{reconfigure, "the database or its pooler refuses connections from this node", "its log says why"}},
		{"08", fault{remedy: wait}},                                                           // the connection failed
		{"40", fault{remedy: wait}}, {"53", fault{remedy: wait}}, {"55", fault{remedy: wait}}, // rolled back; no resources; locked
		{"57", fault{remedy: wait}}, {"58", fault{remedy: wait}}, // stopped by an operator; a system error
		{"28P01", fault{reconfigure, "the database refuses the user or the password", "correct them in the store's URL, or set the password with ALTER ROLE … PASSWORD"}},
		{"28", fault{reconfigure, "the database does not allow this user to connect from here", "add a line for the user and this node to pg_hba.conf; the role needs LOGIN"}},
		{"3D000", fault{reconfigure, "the database that the URL names does not exist", "create it with CREATE DATABASE, or correct the URL"}},
		{"3F000", fault{reconfigure, "the schema does not exist", "restart the node: it creates the schema"}},
		{"42501", fault{reconfigure, "the user lacks a right", "GRANT it, or make the user the owner of the schema; posta doctor --store lists what is missing"}},
		{"42P01", fault{reconfigure, "a table is missing", "restart the node: it creates tables that never existed; if a table was dropped, restore a backup"}},
		{"26000", fault{reconfigure, "a pooler sends the node's statements to another session", pooler}},
		{"42P05", fault{reconfigure, "a pooler gives the node a session that has statements of another one", pooler}},
	}
}

// classifyPooler classifies an error of PgBouncer by its message, since PgBouncer uses one SQLSTATE for nearly
// all errors.
func classifyPooler(message string) fault {
	for _, passing := range []string{
		"pgbouncer cannot connect", "server login has been failing", "no more connections allowed", "query_wait_timeout",
		"client_login_timeout", "client_idle_timeout", "query timeout", "query_timeout", "idle transaction timeout", "connect timeout",
		"server conn crashed", "server closed", "server idle timeout", "server lifetime", "server_login_retry", "pooler is shut down",
		"the database system", "shutting down", "closed by admin", "admin forced", "database configuration changed", "server disconnect",
	} {
		if strings.Contains(message, passing) {
			return fault{remedy: wait}
		}
	}
	switch {
	case strings.HasPrefix(message, "unsupported startup parameter"):
		return fault{reconfigure, "PgBouncer refuses the settings of a session", "remove pgbouncer=false and options from the store's URL; restart a node that was connected directly before"}
	case strings.Contains(message, "statement pooling mode"):
		return fault{reconfigure, "PgBouncer allows no transactions", "set pool_mode = transaction in pgbouncer.ini"}
	}
	return fault{reconfigure, "the database or its pooler refuses the connection", "its log says why; check the host and the port in the store's URL"}
}

// Away reports whether an error of Open or Check is temporary: nothing listens yet, the name does not resolve
// yet, or the server starts, recovers, stops or has no free connection. A wrong password, a missing database
// and an untrusted certificate are permanent.
func Away(err error) bool {
	remedy := classify(err).remedy
	return remedy == wait || remedy == repeat
}

// Explain returns what is wrong and how to fix it, if an error is permanent and an operator can fix it. It
// returns "" for other errors.
func Explain(err error) (problem, fix string) {
	f := classify(err)
	if f.remedy != reconfigure {
		return "", ""
	}
	return f.problem, f.fix
}

// isTLSFailure reports whether the TLS handshake failed.
func isTLSFailure(err error) bool {
	var unverified *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var other x509.HostnameError
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" { // crypto/tls reports an alert of the server like this
		return true
	}
	return errors.As(err, &unverified) || errors.As(err, &unknown) || errors.As(err, &other) ||
		strings.Contains(err.Error(), "refused TLS")
}
