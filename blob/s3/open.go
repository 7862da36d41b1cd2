package s3

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Config configures the driver. Credentials are not part of the URL, since URLs end up in process
// lists and logs.
type Config struct {
	Bucket   string // required; it must exist
	Prefix   string // of all object names
	Endpoint string // HOST[:PORT]; "": Amazon's endpoint of the region
	Plain    bool   // no TLS
	Region   string // "": us-east-1
	Host     bool   // the bucket is in the host name, not in the path
	CAFile   string // PEM file with the authorities of the server's certificate; "": the system's

	// Credentials returns the keys whenever they are needed; nil: none, for public
	// buckets.
	Credentials func() (Keys, error)
}

// Keys are the keys of a user. They are never logged.
type Keys struct{ Access, Secret, Session string }

// String does not reveal the keys.
func (Keys) String() string { return "(keys)" }

// GoString does not reveal the keys.
func (Keys) GoString() string { return "(keys)" }

// provider adapts a function that returns keys to the library.
type provider struct{ keys func() (Keys, error) }

// RetrieveWithCredContext returns the current keys.
func (p provider) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return p.Retrieve()
}

// Retrieve returns the current keys.
func (p provider) Retrieve() (credentials.Value, error) {
	k, err := p.keys()
	return credentials.Value{
		AccessKeyID: k.Access, SecretAccessKey: k.Secret, SessionToken: k.Session, SignerType: credentials.SignatureV4,
	}, err
}

// IsExpired makes the library ask for the keys each time, since their files may be renewed.
func (provider) IsExpired() bool { return true }

// ParseURL parses s3://BUCKET[/PREFIX]?endpoint=URL&region=R&style=host|path&ca=FILE.
func ParseURL(text string) (Config, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Config{}, errors.New("s3: the URL cannot be read: want s3://BUCKET[/PREFIX]?endpoint=URL") // a cause would repeat keys
	case u.Scheme != "s3" || u.Host == "":
		return Config{}, errors.New("s3: want s3://BUCKET[/PREFIX]?endpoint=URL")
	case u.User != nil:
		return Config{}, errors.New("s3: keys do not belong into a URL; put them into the environment or a file")
	}
	c := Config{Bucket: u.Host, Prefix: u.Path}
	for name, values := range u.Query() {
		if err := c.set(name, values[len(values)-1]); err != nil {
			return Config{}, err
		}
	}
	return c, nil
}

// set sets one parameter of a URL.
func (c *Config) set(name, value string) error {
	switch name {
	case "endpoint":
		e, err := url.Parse(value)
		if strings.Contains(value, "@") {
			return errors.New("s3: keys do not belong into the endpoint; put them into the environment or a file")
		}
		if err != nil || e.Host == "" || (e.Scheme != "http" && e.Scheme != "https") || strings.Trim(e.Path, "/") != "" {
			return fmt.Errorf("s3: endpoint is %.100q, want http://HOST:PORT or https://HOST", value)
		}
		c.Endpoint, c.Plain = e.Host, e.Scheme == "http"
	case "region":
		c.Region = value
	case "style":
		if value != "host" && value != "path" {
			return fmt.Errorf("s3: style is %.40q, allowed are host and path", value)
		}
		c.Host = value == "host"
	case "ca":
		c.CAFile = value
	default:
		return fmt.Errorf("s3: unknown parameter %.40q; allowed are endpoint, region, style and ca", name)
	}
	return nil
}

// EnvironmentKeys returns a function that reads keys from the environment: AWS_ACCESS_KEY_ID,
// AWS_SECRET_ACCESS_KEY and, for temporary keys, AWS_SESSION_TOKEN. With _FILE appended, each names a
// file instead, which is read each time.
func EnvironmentKeys(lookup func(name string) (string, bool)) func() (Keys, error) {
	return func() (Keys, error) {
		var k Keys
		for name, to := range map[string]*string{
			"AWS_ACCESS_KEY_ID": &k.Access, "AWS_SECRET_ACCESS_KEY": &k.Secret, "AWS_SESSION_TOKEN": &k.Session,
		} {
			if path, ok := lookup(name + "_FILE"); ok {
				text, err := os.ReadFile(path)
				if err != nil {
					return Keys{}, fmt.Errorf("s3: %s_FILE: %w", name, err)
				}
				*to = strings.TrimSpace(string(text))
			} else if text, ok := lookup(name); ok {
				*to = text
			}
		}
		if (k.Access == "") != (k.Secret == "") {
			return Keys{}, errors.New("s3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must both be set, or neither")
		}
		return k, nil
	}
}

// EnvironmentRegion returns the region in the environment: AWS_REGION, or else
// AWS_DEFAULT_REGION. A region in the URL comes before both.
func EnvironmentRegion(lookup func(name string) (string, bool)) string {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if region, ok := lookup(name); ok && region != "" {
			return region
		}
	}
	return ""
}

// The limits of one request, so that a hanging server counts as away.
const (
	connectTimeout = 5 * time.Second
	headerTimeout  = 20 * time.Second
	connections    = 64 // idle connections that are kept
)

// Open returns a driver for the bucket. It does not contact the server, so a node can start while
// the server is away. The caller closes the driver.
func Open(config Config) (*Blobs, error) {
	if config.Bucket == "" {
		return nil, errors.New("s3: a bucket is needed")
	}
	transport, err := config.transport()
	if err != nil {
		return nil, err
	}
	region := cmp.Or(config.Region, "us-east-1")
	options := &minio.Options{
		Creds: credentials.NewStaticV4("", "", ""), Secure: !config.Plain, Transport: transport,
		Region: region, BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
	}
	if config.Host {
		options.BucketLookup = minio.BucketLookupDNS
	}
	if config.Credentials != nil {
		options.Creds = credentials.New(provider{config.Credentials})
	}
	core, err := minio.NewCore(cmp.Or(config.Endpoint, "s3."+region+".amazonaws.com"), options)
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	server := &server{core: core, bucket: config.Bucket, idle: transport.CloseIdleConnections}
	s := newBlobs(server, cleanPrefix(config.Prefix))
	s.sign, s.idle = server.sign, server.idle
	return s, nil
}

// transport returns a transport that verifies the server and limits its time.
func (c Config) transport() (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSHandshakeTimeout:   connectTimeout,
		ResponseHeaderTimeout: headerTimeout,
		MaxIdleConnsPerHost:   connections,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true, // bodies are hashed as stored
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if c.CAFile == "" {
		return t, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("s3: %s holds no certificate in PEM", c.CAFile)
	}
	return t, nil
}
