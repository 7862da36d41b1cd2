// Package doctor finds what is wrong with a running system, or with the settings with which a node would start,
// and says how to fix it. checks is the table of all checks. The drivers report what they see; the judge
// functions of this package compare that with what a node needs.
package doctor

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/auth"
)

// Subject is what Examine looks at. A check is left out if the field that it needs is empty.
type Subject struct {
	Data         string // the data directory of posta up
	DataFile     string // the SQLite file in it, if it exists
	Store        string // URL
	Blobs        string // URL
	Broker       string // URL
	Listen       string // HOST:PORT
	Certificates auth.CertificateFiles
	Tokens       string // the file of tokens
	System       System // the running system, if it has a Base

	Now func() time.Time
	// Env looks up a variable of the environment. The keys of an S3 server are there.
	Env func(name string) (string, bool)
}

// check is a row of the table.
type check struct {
	part  string // what its findings are about, unless they name another part
	needs string // what it looks at; empty means that the check is left out
	look  func(ctx context.Context, at string) []Finding
}

// checks returns the table of all checks, in the order in which failures explain each other.
func (s Subject) checks() []check {
	return []check{
		{"data", s.Data, directory},
		{"store file", s.DataFile, sqliteFile},
		{"store", parent(after(s.Store, "sqlite")), directory},
		{"store file", after(s.Store, "sqlite"), sqliteFile},
		{"store", after(s.Store, "postgres", "postgresql"), s.database},
		{"blobs", after(s.Blobs, "file"), directory},
		{"blobs", whole(s.Blobs, "s3"), s.bucket},
		{"broker", whole(s.Broker, "amqp", "amqps"), rabbitMQ},
		{"listen", s.Listen, s.listenAddress},
		{"certificate", cmp.Or(s.Certificates.Certificate, s.Certificates.Key), s.certificate},
		{"client CA", s.Certificates.ClientCA, s.authorities},
		{"tokens", s.Tokens, tokens},
		{"descriptors", s.settings(), descriptors},
		{"address", s.System.Base, s.System.address},
		{"ready", s.System.Base, s.System.ready},
		{"node", s.System.Base, s.System.node},
		{"clock", s.System.Base, s.System.clock},
		{"nodes", s.System.Base, s.System.nodes},
		{"queues", s.System.Base, s.System.queues},
	}
}

// settings returns one of the settings of a node that are to be examined, or "".
func (s Subject) settings() string {
	return cmp.Or(s.Data, s.Store, s.Blobs, whole(s.Broker, "amqp", "amqps"), s.Listen,
		s.Certificates.Certificate, s.Certificates.Key, s.Certificates.ClientCA, s.Tokens)
}

// HasSettings reports whether there are settings of a node to examine.
func (s Subject) HasSettings() bool { return s.settings() != "" }

// Patience is how long one check may take.
const Patience = 10 * time.Second

// Examine runs the checks one after the other and returns their findings. It returns early when ctx ends. A URL
// that no driver knows is a *UnknownURLError, and then nothing is examined.
func Examine(ctx context.Context, s Subject) ([]Finding, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	return run(ctx, s.checks()), nil
}

func run(ctx context.Context, checks []check) []Finding {
	var found []Finding
	for _, c := range checks {
		if ctx.Err() != nil {
			break
		}
		if c.needs == "" {
			continue
		}
		found = append(found, c.run(ctx)...)
		if n := len(found); n > 0 && found[n-1].stops {
			break
		}
	}
	return found
}

func (c check) run(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	found := c.look(ctx, c.needs)
	for i := range found {
		found[i].Part = cmp.Or(found[i].Part, c.part)
	}
	return found
}

// UnknownURLError says that no driver knows the scheme of a URL.
type UnknownURLError struct {
	Kind    string // of driver, such as "store"
	Allowed string // the URLs that are known
	URL     string // may contain a password
}

// Error names the kind of driver, but not the URL, which may have a password.
func (e *UnknownURLError) Error() string { return "no such " + e.Kind + ": allowed are " + e.Allowed }

// validate refuses a URL that no driver knows.
func (s Subject) validate() error {
	switch {
	case s.Store != "" && after(s.Store, "sqlite", "postgres", "postgresql") == "":
		return &UnknownURLError{Kind: "store", URL: s.Store, Allowed: "sqlite://FILE and postgres://…"}
	case s.Blobs != "" && cmp.Or(after(s.Blobs, "file"), whole(s.Blobs, "s3")) == "":
		return &UnknownURLError{Kind: "storage for blobs", URL: s.Blobs, Allowed: "file://DIR, such as file://blobs, and s3://BUCKET?endpoint=URL"}
	case s.Broker != "" && s.Broker != "memory://" && whole(s.Broker, "amqp", "amqps") == "":
		return &UnknownURLError{Kind: "broker", URL: s.Broker, Allowed: "memory:// and amqp://USER@HOST/VHOST or amqps://…"}
	}
	return nil
}

// whole returns the URL if it has one of the schemes, otherwise "".
func whole(url string, schemes ...string) string {
	if scheme, _, _ := strings.Cut(url, "://"); slices.Contains(schemes, scheme) {
		return url
	}
	return ""
}

// after returns what follows "://" in the URL if it has one of the schemes, otherwise "".
func after(url string, schemes ...string) string {
	_, place, _ := strings.Cut(whole(url, schemes...), "://")
	return place
}

// parent returns the directory of a file, or "" for "".
func parent(file string) string {
	if file == "" {
		return ""
	}
	return filepath.Dir(file)
}
