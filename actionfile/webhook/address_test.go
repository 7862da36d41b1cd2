package webhook

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/posta-tasks/posta/actions"
)

func TestOnlyPublicAddressesAreCalled(t *testing.T) {
	t.Parallel()
	a := newAddresses(nil)
	for addr, public := range map[string]bool{
		// IPv4
		"8.8.8.8": true, "1.1.1.1": true, "93.184.216.34": true, "172.15.255.255": true, "172.32.0.1": true, "100.63.255.255": true,
		"100.128.0.1": true, "192.0.1.1": true, "192.167.255.255": true, "192.169.0.1": true, "11.0.0.1": true, "9.255.255.255": true,
		"169.253.0.1": true, "223.255.255.255": true, "128.0.0.1": true, "126.255.255.255": true,
		"0.0.0.0": false, "0.1.2.3": false, "127.0.0.1": false, "127.255.255.254": false, "10.0.0.1": false, "10.255.255.255": false,
		"172.16.0.1": false, "172.31.255.255": false, "192.168.0.1": false, "192.168.255.255": false, "169.254.169.254": false, "169.254.0.1": false,
		"100.64.0.1": false, "100.100.100.200": false, "100.127.255.255": false, "192.0.0.1": false, "192.0.0.192": false, "192.0.2.1": false,
		"192.88.99.1": false, "198.18.0.1": false, "198.19.255.255": false, "198.51.100.7": false, "203.0.113.9": false, "224.0.0.1": false,
		"239.255.255.250": false, "240.0.0.1": false, "255.255.255.255": false,
		// IPv6
		"2606:4700:4700::1111": true, "2a00:1450:4001::200e": true, "2001:4860:4860::8888": true, "2400:cb00::1": true,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "febf::1": false, "fec0::1": false, "fc00::1": false, "fd00:ec2::254": false,
		"fdff::1": false, "ff02::1": false, "ff0e::1": false, "2001:db8::1": false, "3fff::1": false, "100::1": false, "2001:2::1": false,
		"2001:10::1": false, "2001:20::1": false, "4000::1": false, "5f00::1": false, "e000::1": false,
		// IPv4 in IPv6
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false, "::ffff:8.8.8.8": true,
		"::ffff:0:127.0.0.1": false, "::ffff:0:8.8.8.8": false, "::127.0.0.1": false, "::10.0.0.1": false, "::8.8.8.8": false,
		"64:ff9b::127.0.0.1": false, "64:ff9b::10.0.0.1": false, "64:ff9b::169.254.169.254": false, "64:ff9b::100.64.0.1": false, "64:ff9b::8.8.8.8": true,
		"64:ff9b::1:8.8.8.8": false, "64:ff9b:1::8.8.8.8": false, "64:ff9b:1::10.0.0.1": false,
		"2002:7f00:1::1": false, "2002:a00:1::": false, "2002:808:808::1": false, "2001:0:4136:e378:8000:63bf:3fff:fdd2": false,
		"2606:4700::5efe:10.0.0.1": false, "2606:4700::200:5efe:127.0.0.1": false, "2606:4700::5efe:8.8.8.8": true,
	} {
		if err := a.check(netip.MustParseAddr(addr)); (err == nil) != public {
			t.Errorf("%s: %v, want public %t", addr, err, public)
		} else if err != nil && !strings.Contains(err.Error(), "allow") {
			t.Errorf("%s: %v does not say what to do", addr, err)
		}
	}
	if err := a.check(netip.Addr{}); err == nil {
		t.Error("no address at all is called")
	}
}

func TestAllowedNetworksAreCalled(t *testing.T) {
	t.Parallel()
	a := newAddresses([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")})
	for addr, allowed := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "64:ff9b::10.1.2.3": true, "fd12::1": true, "8.8.8.8": true,
		"10.2.0.1": false, "::ffff:10.2.0.1": false, "64:ff9b::10.2.0.1": false, "fc00::1": false, "127.0.0.1": false, "::10.1.2.3": false,
	} {
		if err := a.check(netip.MustParseAddr(addr)); (err == nil) != allowed {
			t.Errorf("%s: %v, want allowed %t", addr, err, allowed)
		}
	}
}

// rebinder is a name server that answers each question for an IPv4 address with the next one
// of a list, and repeats the last one.
func rebinder(t *testing.T, answers ...string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	var asked atomic.Int32
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			question := 12
			for buffer[question] != 0 {
				question += int(buffer[question]) + 1
			}
			kind := binary.BigEndian.Uint16(buffer[question+1:])
			answer := append([]byte(nil), buffer[:question+5]...)
			answer[2], answer[3] = 0x81, 0x80
			clear(answer[6:12])
			if kind == 1 && n > 0 {
				i := min(int(asked.Add(1)), len(answers)) - 1
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				answer = append(answer, netip.MustParseAddr(answers[i]).AsSlice()...)
			}
			_, _ = conn.WriteTo(answer, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

// TestANameThatTurnsPrivateIsRefused has a name mean an allowed address first, and then another
// one on which the same server listens.
func TestANameThatTurnsPrivateIsRefused(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("Connection", "close")
	}))
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	e := New(Config{
		URL: &url.URL{Scheme: "http", Host: "rebind.test.:" + port}, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		Resolver: rebinder(t, "127.0.0.1", "127.0.0.2"),
	})
	call := &actions.Call{Action: "hook", Payload: []byte("1")}
	if data, err := e.Call(t.Context(), call, nil); err != nil || string(data) != `"data":null` {
		t.Fatalf("the first call: %s, %v", data, err)
	}
	if _, err := e.Call(t.Context(), call, nil); err == nil || !strings.Contains(err.Error(), "127.0.0.2 is refused: it is loopback") {
		t.Errorf("the second call: %v", err)
	}
	if calls.Load() != 1 {
		t.Errorf("the server was called %d times", calls.Load())
	}
}
