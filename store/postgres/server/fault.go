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

// remedy says what helps against an error of the database.
type remedy int

const (
	none   remedy = iota // nothing does: the statement is at fault, or what it was given
	again                // the server has undone a call that succeeds when it is made again
	wait                 // it passes by itself
	change               // somebody must change a setting; waiting does not help
)

// fault is what an error of the database means.
type fault struct {
	remedy remedy
	says   string // what is wrong, if somebody must change it
	fix    string // what to change
}

// classify says what an error of the database, or of the way there, means.
func classify(err error) fault {
	var reply *pgconn.PgError
	if errors.As(err, &reply) {
		return classifyReply(reply)
	}
	if distrusts(err) {
		return fault{change, "this node and the database do not agree about TLS",
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

// classifyReply goes by the SQLSTATE, whose first two characters are its class.
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

// replies are the SQLSTATEs that are known, a whole one before its class.
func replies() []knownReply {
	const pooler = "pgbouncer=true in the store's URL has the node use no prepared statements"
	return []knownReply{
		{"40001", fault{remedy: again}}, {"40P01", fault{remedy: again}}, // a serialization failure, a deadlock
		{"25006", fault{remedy: wait}}, // it has become a standby
		{"08004", fault{change, "the database or its pooler refuses connections from this node", "look into its log"}},
		{"08", fault{remedy: wait}},                                                           // the connection failed
		{"40", fault{remedy: wait}}, {"53", fault{remedy: wait}}, {"55", fault{remedy: wait}}, // undone; no resources; locked
		{"57", fault{remedy: wait}}, {"58", fault{remedy: wait}}, // an operator's doing; the system's
		{"28P01", fault{change, "the database refuses the user or the password", "mend them in the store's URL, or ALTER ROLE … PASSWORD"}},
		{"28", fault{change, "the database does not let this user in from here", "a line of pg_hba.conf lets the user in from this node, and ALTER ROLE … LOGIN"}},
		{"3D000", fault{change, "the database that the URL names does not exist", "CREATE DATABASE, or name another one in the URL"}},
		{"3F000", fault{change, "the schema does not exist", "restart the node: it makes the schema"}},
		{"42501", fault{change, "the user lacks a right", "GRANT it, or make the user the owner of the schema; posta doctor --store lists what is missing"}},
		{"42P01", fault{change, "a table is missing", "restart the node: it makes what was never there; restore a backup of what was dropped"}},
		{"26000", fault{change, "a pooler gives the node's statements to another session", pooler}},
		{"42P05", fault{change, "a pooler gives the node a session with another one's statements", pooler}},
	}
}

// classifyPooler goes by the message, since PgBouncer has one SQLSTATE for nearly all that it says.
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
		return fault{change, "PgBouncer refuses the settings of a session", "take pgbouncer=false out of the store's URL, and options too; restart a node that was connected directly before"}
	case strings.Contains(message, "statement pooling mode"):
		return fault{change, "PgBouncer allows no transactions", "pool_mode = transaction in pgbouncer.ini"}
	}
	return fault{change, "the database or its pooler refuses the connection", "its log says more; do the port and the host in the store's URL belong to it?"}
}

// Away reports whether an error of Open or Check passes by itself: nothing listens yet, the name is
// not known yet, the server starts, recovers, stops or has no connection free. A wrong password, a
// database that is not there and a certificate that is not trusted do not pass.
func Away(err error) bool {
	remedy := classify(err).remedy
	return remedy == wait || remedy == again
}

// Explain returns, of an error that does not pass and that somebody can do something about, what is
// wrong and what to change; "" of others.
func Explain(err error) (says, fix string) {
	f := classify(err)
	if f.remedy != change {
		return "", ""
	}
	return f.says, f.fix
}

// distrusts reports whether the two could not agree about TLS.
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
