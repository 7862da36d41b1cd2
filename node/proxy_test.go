package node

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/posta-tasks/posta/internal/testenv"
)

var (
	clientV4 = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711}
	clientV6 = &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 4711}
	doorV4   = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9000}
	doorV6   = &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 9000}
)

// header returns a PROXY header of a version, with TLVs of these sizes.
func header(t *testing.T, version byte, source, door net.Addr, tlvs ...int) string {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(version, source, door)
	var list []proxyproto.TLV
	for _, size := range tlvs {
		list = append(list, proxyproto.TLV{Type: proxyproto.PP2_TYPE_MIN_CUSTOM, Value: bytes.Repeat([]byte("T"), size)})
	}
	if err := h.SetTLVs(list); err != nil {
		t.Fatal(err)
	}
	text, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// goodHeaders returns headers by name, each with the address that it contains ("" stands for
// the peer's address).
func goodHeaders(t *testing.T) map[string][2]string {
	t.Helper()
	unix := &net.UnixAddr{Net: "unix", Name: "/run/client"}
	return map[string][2]string{
		"v1 IPv4":              {header(t, 1, clientV4, doorV4), "192.0.2.7:4711"},
		"v1 IPv6":              {header(t, 1, clientV6, doorV6), "[2001:db8::7]:4711"},
		"v1 unknown":           {"PROXY UNKNOWN\r\n", ""},
		"v1 unknown, more":     {"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""},
		"v2 IPv4":              {header(t, 2, clientV4, doorV4), "192.0.2.7:4711"},
		"v2 IPv6":              {header(t, 2, clientV6, doorV6), "[2001:db8::7]:4711"},
		"v2 with TLVs":         {header(t, 2, clientV4, doorV4, 1, 200, 0), "192.0.2.7:4711"},
		"v2 of maximal length": {header(t, 2, clientV4, doorV4, proxyMax-proxyV2Prefix-12-3), "192.0.2.7:4711"},
		"v2 local":             {proxyV2Signature + "\x20\x00\x00\x00", ""},
		"v2 local, TLVs":       {proxyV2Signature + "\x20\x00\x00\x04\x04\x00\x01x", ""},
		"v2 unspecified":       {proxyV2Signature + "\x21\x00\x00\x00", ""},
		"v2 of a Unix socket":  {header(t, 2, unix, unix), ""},
	}
}

func TestThePROXYHeaderIsReadExactlyAndContainsTheClient(t *testing.T) {
	t.Parallel()
	const request = "PROXY {\"action\":\"echo\"}\n"
	for name, good := range goodHeaders(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := testenv.TCPPair(t)
			if _, err := client.Write([]byte(good[0] + request)); err != nil {
				t.Fatal(err)
			}
			var reader proxyReader
			source, err := reader.read(server, soon())
			if err != nil {
				t.Fatal(err)
			}
			want := good[1]
			if want == "" {
				want = server.RemoteAddr().String()
			}
			if source.String() != want {
				t.Errorf("the client is %s, want %s", source, want)
			}
			if got := rest(t, client, server); got != request {
				t.Errorf("the door read %q, want %q", got, request)
			}
		})
	}
}

func TestThePROXYHeaderMayArriveByteByByte(t *testing.T) {
	t.Parallel()
	for name, good := range goodHeaders(t) {
		if len(good[0]) > 300 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := testenv.TCPPair(t)
			written := make(chan error, 1)
			go func() {
				for i := range len(good[0]) {
					if _, err := client.Write([]byte(good[0][i : i+1])); err != nil {
						written <- err
						return
					}
					<-time.After(200 * time.Microsecond) // so that most bytes arrive alone
				}
				_, err := client.Write([]byte("{"))
				written <- err
			}()
			var reader proxyReader
			source, err := reader.read(server, soon())
			if err != nil {
				t.Fatal(err)
			}
			if good[1] != "" && source.String() != good[1] {
				t.Errorf("the client is %s, want %s", source, good[1])
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			if got := rest(t, client, server); got != "{" {
				t.Errorf("the door read %q, want {", got)
			}
		})
	}
}

func TestAConnectionWithoutACompletePROXYHeaderIsRefused(t *testing.T) {
	t.Parallel()
	v2 := header(t, 2, clientV4, doorV4)
	tests := map[string]struct{ sent, want string }{
		"a line":               {"{\"action\":\"echo\"}\n", "does not begin with a PROXY"},
		"HTTP":                 {"POST /v1/run HTTP/1.1\r\n\r\n", "does not begin with a PROXY"},
		"TLS":                  {"\x16\x03\x01\x02\x00", "does not begin with a PROXY"},
		"no space":             {"PROXYTCP4 1.2.3.4 1.2.3.4 1 2\r\n", "does not begin with a PROXY"},
		"lower case":           {"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "does not begin with a PROXY"},
		"nearly v2":            {"\r\n\r\n\x00\r\nQUIT\r", "does not begin with a PROXY"},
		"v1 without CR":        {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "broken PROXY"},
		"v1 of a name":         {"PROXY TCP4 localhost 1.2.3.4 1 2\r\n", "broken PROXY"},
		"v1 with a wrong port": {"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "broken PROXY"},
		"v1 of UDP":            {"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "broken PROXY"},
		"v1 with more":         {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "broken PROXY"},
		"v1 too long":          {"PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n", "longer than 107 bytes"},
		"v2 too long":          {proxyV2Signature + "\x21\x11\xff\xff", "65551 bytes, at most 4096"},
		"v2 of version 3":      {proxyV2Signature + "\x31" + v2[13:], "broken PROXY"},
		"v2 command 2":         {proxyV2Signature + "\x22" + v2[13:], "broken PROXY"},
		"v2 family 4":          {proxyV2Signature + "\x21\x41" + v2[14:], "broken PROXY"},
		"v2 too short":         {proxyV2Signature + "\x21\x11\x00\x04\x01\x02\x03\x04", "broken PROXY"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := testenv.TCPPair(t)
			if _, err := client.Write([]byte(test.sent)); err != nil {
				t.Fatal(err)
			}
			var reader proxyReader
			source, err := reader.read(server, soon())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("read = %v, %v; want an error with %q", source, err, test.want)
			}
		})
	}
}

func TestAMissingPROXYHeaderIsAnErrorAtTheDeadline(t *testing.T) {
	t.Parallel()
	for _, sent := range []string{"", "P", "PROXY TCP4 1.2.3.4", proxyV2Signature, proxyV2Signature + "\x21\x11\x00\x0c1234"} {
		client, server := testenv.TCPPair(t)
		if _, err := client.Write([]byte(sent)); err != nil {
			t.Fatal(err)
		}
		var reader proxyReader
		_, err := reader.read(server, time.Now().Add(20*time.Millisecond))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %q: %v, want the deadline", sent, err)
		}
	}
	client, server := testenv.TCPPair(t)
	client.Close()
	var reader proxyReader
	if _, err := reader.read(server, soon()); !errors.Is(err, io.EOF) {
		t.Errorf("after the peer has closed: %v, want EOF", err)
	}
}

func FuzzTheSizeOfAPROXYHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n{"))
	f.Add([]byte(proxyV2Signature + "\x21\x11\x00\x0c123456789012{"))
	f.Add([]byte(proxyV2Signature + "\x20\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		size, err := proxyHeaderSize(data)
		if size < 0 || size > len(data) || size > proxyMax || err != nil && size != 0 {
			t.Fatalf("proxyHeaderSize(%q) = %d, %v", data, size, err)
		}
		if size > 0 {
			parseProxyHeader(data[:size])
		}
	})
}
