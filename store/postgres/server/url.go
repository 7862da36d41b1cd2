package server

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// parse reads the URL. A server that is not on this machine must have a certificate that is valid for its name,
// unless sslmode says otherwise.
func parse(text string) (*target, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		// The error of the parser contains the password, so it is dropped.
		return nil, errors.New("the store's URL must be postgres://user:password@host:port/database")
	}
	query := u.Query()
	how, err := parsePooling(query.Get(poolerOption))
	if err != nil {
		return nil, err
	}
	if query.Has(poolerOption) { // which the database does not know
		query.Del(poolerOption)
		u.RawQuery = query.Encode()
	}
	sized := query.Has("pool_max_conns")
	cfg, err := pgxpool.ParseConfig(u.String())
	if err == nil && query.Get("sslmode") == "" && os.Getenv("PGSSLMODE") == "" && !onThisMachine(cfg.ConnConfig) {
		query.Set("sslmode", "verify-full")
		query.Del("ssl") // which would ask for less
		u.RawQuery = query.Encode()
		cfg, err = pgxpool.ParseConfig(u.String())
	}
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
	return &target{cfg, how}, nil
}

// onThisMachine reports whether all hosts are loopback addresses or sockets. It looks at the parsed
// configuration, since hosts come from the environment and from files as well as from the URL.
func onThisMachine(cfg *pgx.ConnConfig) bool {
	hosts := []string{cfg.Host}
	for _, f := range cfg.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	return !slices.ContainsFunc(hosts, func(host string) bool {
		network, _ := pgconn.NetworkAddress(host, cfg.Port)
		ip := net.ParseIP(host)
		return network != "unix" && host != "localhost" && (ip == nil || !ip.IsLoopback())
	})
}
