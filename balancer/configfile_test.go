package balancer_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/posta-tasks/posta/balancer"
	"github.com/posta-tasks/posta/internal/testenv"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var threeNodes = []string{"127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"}

// renderers are the functions that print configurations, by file name.
var renderers = map[string]func(balancer.ConfigFile) (string, error){
	"nginx.conf":  balancer.Nginx,
	"haproxy.cfg": balancer.HAProxy,
}

func TestConfigurationsMatchTheGoldenFiles(t *testing.T) {
	t.Parallel()
	full := balancer.ConfigFile{
		Listen:         ":9000",
		Nodes:          []string{"10.0.0.1:9001", "[fd00::2]:9001", "node-3.posta_net:9001"},
		ProxyProtocol:  true,
		MaxConnections: 500,
		PidFile:        "/run/posta/balancer.pid",
	}
	withModule, withSocket := full, full
	withModule.Module = "/usr/lib/nginx/modules/ngx_stream_module.so"
	withSocket.AdminSocket = "/run/posta/haproxy.sock"
	withSocket.NodeTLS, withSocket.NodeCA, withSocket.NodeCert = true, "/etc/posta/nodes.pem", "/etc/posta/checks.pem"
	cases := []struct {
		file   string
		render func(balancer.ConfigFile) (string, error)
		cfg    balancer.ConfigFile
	}{
		{"../deploy/nginx.conf", balancer.Nginx, balancer.ConfigFile{Nodes: threeNodes}},
		{"../deploy/haproxy.cfg", balancer.HAProxy, balancer.ConfigFile{Nodes: threeNodes}},
		{"testdata/full.nginx.conf", balancer.Nginx, withModule},
		{"testdata/full.haproxy.cfg", balancer.HAProxy, withSocket},
	}
	for _, c := range cases {
		t.Run(filepath.Base(c.file), func(t *testing.T) {
			t.Parallel()
			got, err := c.render(c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			compareWithGolden(t, c.file, got)
		})
	}
}

// compareWithGolden compares got with a file, or writes the file with -update.
func compareWithGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not up to date (go test ./balancer -update rewrites it):\n%s", file, diff)
	}
}

func TestAnInvalidConfigurationIsRefusedWithTheWrongValue(t *testing.T) {
	t.Parallel()
	nodes := func(list ...string) balancer.ConfigFile { return balancer.ConfigFile{Nodes: list} }
	cases := []struct {
		name string
		cfg  balancer.ConfigFile
		want string
	}{
		{"no node", nodes(), "at least one node"},
		{"no port", nodes("127.0.0.1"), `"127.0.0.1" is not host:port`},
		{"no host", nodes(":9001"), "has no host"},
		{"empty", nodes(""), "is not host:port"},
		{"port 0", nodes("127.0.0.1:0"), "port must be 1 to 65535"},
		{"port too high", nodes("127.0.0.1:65536"), `port "65536" is not a number from 1 to 65535`},
		{"signed port", nodes("127.0.0.1:+9001"), `port "+9001"`},
		{"port by name", nodes("127.0.0.1:http"), `port "http"`},
		{"mistyped IPv4", nodes("127.0.0.300:9001"), "neither an IP address nor a host name"},
		{"IPv6 zone", nodes("[fe80::1%eth0]:9001"), "zone"},
		{"twice", nodes("127.0.0.1:9001", "127.0.0.1:9001"), `"127.0.0.1:9001" is given twice`},
		{"twice, in another notation", nodes("[::1]:9001", "[0:0::1]:09001"), `"[0:0::1]:09001" is given twice`},
		{"the balancer itself", nodes("127.0.0.1:9000"), "own address"},
		{"the balancer itself on loopback", balancer.ConfigFile{Listen: ":9001", Nodes: []string{"localhost:9001"}}, "own address"},
		{"a directive after the port", nodes("127.0.0.1:9001 backup"), `port "9001 backup"`},
		{"a directive after a newline", nodes("127.0.0.1:9001\n    server evil 10.0.0.9:1"), "is not host:port"},
		{"a newline in the host", nodes("a\nb:9001"), "neither"},
		{"a closing brace", nodes("a;}:9001"), "neither"},
		{"a quote", nodes(`"a":9001`), "neither"},
		{"a comment", nodes("#a:9001"), "neither"},
		{"an environment variable", nodes("$HOME:9001"), "neither"},
		{"a unix socket", nodes("unix:/tmp/s"), `port "/tmp/s"`},
		{"a name with a slash", nodes("a/b:9001"), "neither"},
		{"a name that is too long", nodes(strings.Repeat("a", 254) + ":9001"), "neither"},
		{"bad listen", balancer.ConfigFile{Listen: "here", Nodes: threeNodes}, `listen: address "here"`},
		{"listen injection", balancer.ConfigFile{Listen: "*:9000; daemon on", Nodes: threeNodes}, "listen"},
		{"listen on port 0", balancer.ConfigFile{Listen: ":0", Nodes: threeNodes}, "port must be"},
		{"negative connections", balancer.ConfigFile{MaxConnections: -1, Nodes: threeNodes}, "max connections: -1"},
		{"pid file injection", balancer.ConfigFile{PidFile: "/run/p;user root", Nodes: threeNodes}, "pid file"},
		{"an authority without TLS", balancer.ConfigFile{NodeCA: "/ca.pem", Nodes: threeNodes}, "for nodes that speak TLS"},
		{"relative pid file", balancer.ConfigFile{PidFile: "posta.pid", Nodes: threeNodes}, "absolute path"},
	}
	for program, render := range renderers {
		for _, c := range cases {
			t.Run(program+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				text, err := render(c.cfg)
				if err == nil {
					t.Fatalf("got no error but\n%s", text)
				}
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("the error %q does not contain %q", err, c.want)
				}
			})
		}
	}
}

func TestOptionsThatAProgramDoesNotHaveAreRefused(t *testing.T) {
	t.Parallel()
	if _, err := balancer.Nginx(balancer.ConfigFile{Nodes: threeNodes, AdminSocket: "/run/s"}); err == nil {
		t.Error("Nginx accepted an admin socket")
	}
	if _, err := balancer.Nginx(balancer.ConfigFile{Nodes: threeNodes, NodeTLS: true}); err == nil {
		t.Error("Nginx accepted TLS for checks, which it does not have")
	}
	if _, err := balancer.HAProxy(balancer.ConfigFile{Nodes: threeNodes, Module: "/lib/m.so"}); err == nil {
		t.Error("HAProxy accepted a module")
	}
	if _, err := balancer.HAProxy(balancer.ConfigFile{Nodes: threeNodes, AdminSocket: "/run/s mode 777"}); err == nil {
		t.Error("HAProxy accepted an admin socket with a space")
	}
}

func TestThePrintedConfigurationsAreAcceptedByTheirPrograms(t *testing.T) {
	t.Parallel()
	plain := balancer.ConfigFile{Nodes: threeNodes, PidFile: t.TempDir() + "/pid"}
	full := balancer.ConfigFile{Listen: ":9000", Nodes: []string{"127.0.0.1:9001", "[::1]:9002"}, ProxyProtocol: true, PidFile: plain.PidFile}
	withSocket := full
	withSocket.AdminSocket = t.TempDir() + "/admin"
	for name, c := range map[string]struct {
		render  func(balancer.ConfigFile) (string, error)
		cfg     balancer.ConfigFile
		command []string
	}{
		"Nginx":            {balancer.Nginx, plain, []string{"nginx", "-e", "stderr", "-t", "-c"}},
		"Nginx, in full":   {balancer.Nginx, full, []string{"nginx", "-e", "stderr", "-t", "-c"}},
		"HAProxy":          {balancer.HAProxy, plain, []string{"haproxy", "-c", "-f"}},
		"HAProxy, in full": {balancer.HAProxy, withSocket, []string{"haproxy", "-c", "-f"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testenv.Need(t, c.command[0])
			text, err := c.render(c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			p := testenv.Start(t, c.command[0], append(c.command[1:], file)...)
			if code := p.Wait(t, patience); code != 0 || strings.Contains(strings.ToLower(p.Output()), "warn") {
				t.Errorf("exit code %d:\n%s", code, p.Output())
			}
		})
	}
}

// TestNginxStartsAlthoughAnUnrelatedModuleIsMissing enables modules whose files do not exist under -p. The printed
// configuration needs only the stream module.
func TestNginxStartsAlthoughAnUnrelatedModuleIsMissing(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "nginx")
	const stream = "/usr/lib/nginx/modules/ngx_stream_module.so" // of Debian, as make setup installs it
	if _, err := os.Stat(stream); err != nil {
		t.Skipf("the stream module is elsewhere or built in: %v", err)
	}
	dir := t.TempDir()
	enabled := filepath.Join(dir, "modules-enabled") + "/"
	for _, sub := range []string{"modules", "modules-enabled", "logs"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(stream, filepath.Join(dir, "modules", filepath.Base(stream))); err != nil {
		t.Fatal(err)
	}
	for name, module := range map[string]string{
		"50-mod-stream.conf": "ngx_stream_module.so", "50-mod-http-echo.conf": "ngx_http_echo_module.so",
		"70-mod-stream-geoip.conf": "ngx_stream_geoip_module.so",
	} {
		if err := os.WriteFile(enabled+name, []byte("load_module modules/"+module+";\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := balancer.Nginx(balancer.ConfigFile{Nodes: threeNodes, PidFile: filepath.Join(dir, "pid")})
	if err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, "/etc/nginx/modules-enabled/", enabled)
	if !strings.Contains(text, enabled) {
		t.Fatal("the configuration does not include Debian's list of modules")
	}
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := testenv.Start(t, "nginx", "-e", "stderr", "-t", "-p", dir, "-c", file)
	if code := p.Wait(t, patience); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.Output())
	}
}
