package cli

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"

	"github.com/spf13/pflag"

	"github.com/posta-tasks/posta/auth"
)

// serverTLS are the TLS flags of a server.
type serverTLS struct{ files auth.CertificateFiles }

// addServerTLS defines them.
func addServerTLS(flags *pflag.FlagSet) *serverTLS {
	s := &serverTLS{}
	flags.StringVar(&s.files.Certificate, "tls-cert", "", "the `file` with the server's certificate and its chain, in PEM; the port speaks TLS only then")
	flags.StringVar(&s.files.Key, "tls-key", "", "the `file` with the certificate's key, in PEM")
	flags.StringVar(&s.files.ClientCA, "tls-client-ca", "", "the `file` with the authorities that issue the certificates of clients, in PEM; other clients are refused; needs --tls-cert")
	return s
}

// AsksClients reports whether clients must have a certificate.
func (s *serverTLS) AsksClients() bool { return s.files.ClientCA != "" }

// Load reads the files. It returns nil without any, which means plain text. The files are read again when they
// change; logger reports when that fails.
func (s *serverTLS) Load(logger *slog.Logger) (*auth.Certificates, error) {
	if s.files == (auth.CertificateFiles{}) {
		return nil, nil
	}
	if s.files.Certificate == "" || s.files.Key == "" {
		return nil, misuse("--tls-cert CERT.pem --tls-key KEY.pem", "TLS needs both --tls-cert and --tls-key")
	}
	certificates, err := auth.LoadCertificates(s.files, func(err error) {
		logger.Error("changed certificate files cannot be used", "error", err)
	})
	if err != nil {
		return nil, fail(exitConfig, "the files are in PEM and belong together; the key may be read by its owner and its group", "%w", err)
	}
	return certificates, nil
}

// clientTLS are the TLS flags of a client.
type clientTLS struct {
	flags     []string // their names
	On        bool
	CA        string
	Cert, Key string
}

// addClientTLS defines the flags, with a prefix before their names, and returns them.
func addClientTLS(flags *pflag.FlagSet, prefix, whom string) (c *clientTLS, names []string) {
	c = &clientTLS{}
	names = []string{prefix + "tls", prefix + "tls-ca", prefix + "tls-cert", prefix + "tls-key"}
	c.flags = names
	with := "with --" + names[0] + ": the `file` with "
	flags.BoolVar(&c.On, names[0], false, "speak TLS to "+whom+", and verify the certificate")
	flags.StringVar(&c.CA, names[1], "", with+"the certificate authorities to trust, in PEM (default the system's)")
	flags.StringVar(&c.Cert, names[2], "", with+"the client certificate, in PEM")
	flags.StringVar(&c.Key, names[3], "", with+"its key, in PEM")
	return c, names
}

// Config returns the TLS configuration; nil means plain text.
func (c *clientTLS) Config() (*tls.Config, error) {
	if !c.On {
		// In plain text, everybody on the way could read a token.
		for i, file := range []string{c.CA, c.Cert, c.Key} {
			if file != "" {
				return nil, misuse("add --"+c.flags[0]+", or its environment variable with the value true, or leave out --"+c.flags[i+1]+" and its variable",
					"--%s is for TLS, and without --%s plain text is spoken", c.flags[i+1], c.flags[0])
			}
		}
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, misuse("it names a file with certificates", "TLS authorities: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, misuse("it must begin with -----BEGIN CERTIFICATE-----", "TLS: %s holds no certificate in PEM", c.CA)
		}
	}
	if (c.Cert == "") != (c.Key == "") {
		return nil, misuse("give both, or neither", "TLS: a certificate and its key belong together, and one is missing")
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, misuse("the files are in PEM and belong together", "TLS: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
