package server

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// parse reads the URL. A server that is not on this machine must show a certificate that is
// valid for its name, unless sslmode says otherwise.
func parse(text string) (*pgxpool.Config, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		// What the parser says of a broken URL has the password in it.
		return nil, errors.New("the store's URL must be postgres://user:password@host:port/database")
	}
	query := u.Query()
	if !query.Has("sslmode") && os.Getenv("PGSSLMODE") == "" && !onThisMachine(u.Host, query.Get("host")) {
		query.Set("sslmode", "verify-full")
		u.RawQuery = query.Encode()
	}
	sized := query.Has("pool_max_conns")
	cfg, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		return nil, fmt.Errorf("the store's URL: %w", err)
	}
	if !sized {
		cfg.MaxConns = workConnections
	}
	params := cfg.ConnConfig.RuntimeParams
	if params["search_path"] == "" {
		params["search_path"] = schema
	}
	if params["application_name"] == "" {
		params["application_name"] = "posta"
	}
	if cfg.ConnConfig.ValidateConnect == nil {
		cfg.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return cfg, nil
}

// onThisMachine tells whether all hosts are loopback addresses or sockets.
func onThisMachine(hosts, asParameter string) bool {
	if hosts == "" {
		hosts = asParameter
	}
	for _, host := range strings.Split(hosts, ",") {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.Trim(host, "[]")
		ip := net.ParseIP(host)
		if host != "" && host != "localhost" && !strings.HasPrefix(host, "/") && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}
