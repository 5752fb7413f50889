package listeners

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProxyHeaderVersion1(t *testing.T) {
	for _, test := range []struct{ line, source, target, err string }{
		{line: "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", source: "192.0.2.1:56324", target: "198.51.100.1:443"},
		{line: "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", source: "[2001:db8::1]:1", target: "[2001:db8::2]:65535"},
		{line: "PROXY UNKNOWN\r\n"},
		{line: "PROXY UNKNOWN ffff::1 anything at all\r\n"},
		{line: "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n", err: "CR and LF"},
		{line: "PROXY TCP5 192.0.2.1 198.51.100.1 56324 443\r\n", err: "TCP5"},
		{line: "PROXY TCP4 2001:db8::1 198.51.100.1 56324 443\r\n", err: "no address of TCP4"},
		{line: "PROXY TCP6 192.0.2.1 2001:db8::2 56324 443\r\n", err: "no address of TCP6"},
		{line: "PROXY TCP6 fe80::1%eth0 2001:db8::2 56324 443\r\n", err: "no address"},
		{line: "PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536\r\n", err: "no port"},
		{line: "PROXY TCP4 192.0.2.1 198.51.100.1 056324 443\r\n", err: "no port"},
		{line: "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n", err: "5 fields"},
		{line: "PROXY TCP4  192.0.2.1 198.51.100.1 56324 443\r\n", err: "7 fields"},
		{line: "PROXY \r\n", err: "unknown protocol"},
		{line: "PROXY TCP4 " + strings.Repeat("1", longestProxy1), err: "within 107 bytes"},
		{line: "GET / HTTP/1.1\r\n", err: errProxyNone.Error()},
	} {
		t.Run(test.line, func(t *testing.T) {
			h, n, err := parseProxy([]byte(test.line + "rest"))
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, len(test.line), n)
			require.Equal(t, test.source, text(h.source))
			require.Equal(t, test.target, text(h.target))
		})
	}
}

func TestProxyHeaderVersion2(t *testing.T) {
	tcp4 := []byte{192, 0, 2, 1, 198, 51, 100, 1, 0xDC, 0x04, 0x01, 0xBB}
	tcp6 := append(append(net.ParseIP("2001:db8::1").To16(), net.ParseIP("2001:db8::2").To16()...), 0, 1, 0xFF, 0xFF)
	unix := make([]byte, 216)
	copy(unix, "/run/source")
	copy(unix[108:], "/run/target")
	ssl := append([]byte{7, 0, 0, 0, 0}, fields(
		proxySSLVersion, "TLSv1.3", proxySSLName, "meter-7", proxySSLCipher, "TLS_AES_128_GCM_SHA256")...)
	whole := proxyTLS{"TLSv1.3", "TLS_AES_128_GCM_SHA256", "meter-7", true}
	for _, test := range []struct {
		name    string
		command byte
		family  byte
		body    []byte
		want    proxyHeader
		err     string
	}{
		{name: "TCP4", command: 0x21, family: proxyTCP4, body: tcp4, want: proxyHeader{source: addr("192.0.2.1:56324"), target: addr("198.51.100.1:443")}},
		{name: "TCP6", command: 0x21, family: proxyTCP6, body: tcp6, want: proxyHeader{source: addr("[2001:db8::1]:1"), target: addr("[2001:db8::2]:65535")}},
		{name: "Unix", command: 0x21, family: proxyUnix, body: unix, want: proxyHeader{
			source: &net.UnixAddr{Name: "/run/source", Net: "unix"}, target: &net.UnixAddr{Name: "/run/target", Net: "unix"}}},
		{name: "unspecified", command: 0x21, family: proxyUnspecified},
		{name: "local, whatever follows", command: 0x20, family: proxyTCP4, body: tcp4},
		{name: "names", command: 0x21, family: proxyUnspecified, body: fields(proxyALPN, "mqtt", proxyAuthority, "broker.example", 0x05, "unique", 0xE0, "own"),
			want: proxyHeader{alpn: "mqtt", authority: "broker.example"}},
		{name: "TLS", command: 0x21, family: proxyUnspecified, body: fields(proxySSL, string(ssl)), want: proxyHeader{tls: whole}},
		{name: "TLS, not verified", command: 0x21, family: proxyUnspecified,
			body: fields(proxySSL, "\x07\x00\x00\x00\x01"+string(fields(proxySSLVersion, "TLSv1.2"))), want: proxyHeader{tls: proxyTLS{version: "TLSv1.2"}}},
		{name: "TLS, without a certificate", command: 0x21, family: proxyUnspecified,
			body: fields(proxySSL, "\x01\x00\x00\x00\x00"), want: proxyHeader{tls: proxyTLS{version: "unknown"}}},
		{name: "no TLS", command: 0x21, family: proxyUnspecified, body: fields(proxySSL, "\x00\x00\x00\x00\x00")},
		{name: "version 3", command: 0x31, family: proxyTCP4, body: tcp4, err: "0x31"},
		{name: "unknown command", command: 0x22, family: proxyTCP4, body: tcp4, err: "0x22"},
		{name: "datagrams", command: 0x21, family: 0x12, body: tcp4, err: "0x12"},
		{name: "short addresses", command: 0x21, family: proxyTCP6, body: tcp4, err: "too few"},
		{name: "field cut off", command: 0x21, family: proxyUnspecified, body: []byte{1, 0}, err: "cut off"},
		{name: "field too long", command: 0x21, family: proxyUnspecified, body: []byte{1, 0, 2, 'x'}, err: "0x01"},
		{name: "TLS too short", command: 0x21, family: proxyUnspecified, body: fields(proxySSL, "\x01"), err: "too short"},
		{name: "checksum of 2 bytes", command: 0x21, family: proxyUnspecified, body: fields(proxyChecksum, "xx"), err: "4 bytes"},
		{name: "too long", command: 0x21, family: proxyUnspecified, body: make([]byte, longestProxy2+1), err: "4097"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := header2(test.command, test.family, test.body)
			h, n, err := parseProxy(append(b, "rest"...))
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, len(b), n)
			require.Equal(t, text(test.want.source), text(h.source))
			require.Equal(t, text(test.want.target), text(h.target))
			require.Equal(t, test.want.tls, h.tls)
			require.Equal(t, test.want.alpn, h.alpn)
			require.Equal(t, test.want.authority, h.authority)
		})
	}
}

func TestProxyHeaderChecksum(t *testing.T) {
	b := header2(0x21, proxyUnspecified, fields(proxyAuthority, "broker.example", proxyChecksum, "\x00\x00\x00\x00", proxyALPN, "mqtt"))
	at := len(b) - len("mqtt") - 3 - 4
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	h, _, err := parseProxy(append(b[:len(b):len(b)], "rest"...))
	require.NoError(t, err)
	require.Equal(t, "mqtt", h.alpn)
	for i := len(proxySignature2) + 4; i < len(b); i++ {
		if i == at-3 { // its type: it would be no checksum
			continue
		}
		b[i] ^= 1
		_, _, err := parseProxy(b)
		require.Error(t, err, "byte %d changed", i)
		b[i] ^= 1
	}
}

// FuzzProxyHeader holds for whatever comes: no panic, no byte used that is not
// there, and a header of which a byte is missing asks for it.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\nrest"))
	f.Add(header2(0x21, proxyTCP4, []byte{192, 0, 2, 1, 198, 51, 100, 1, 0xDC, 0x04, 0x01, 0xBB}))
	f.Add(header2(0x21, proxyUnspecified, fields(proxySSL, "\x07\x00\x00\x00\x00"+string(fields(proxySSLName, "x")))))
	f.Add(header2(0x20, 0, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := parseProxy(b)
		if err != nil {
			require.Nil(t, h)
			return
		}
		require.NotNil(t, h)
		require.Positive(t, n)
		require.LessOrEqual(t, n, len(b))
		for i := range n {
			_, _, err := parseProxy(b[:i:i])
			require.ErrorIs(t, err, errProxyShort, "%d of %d bytes", i, n)
		}
		again, m, err := parseProxy(b[:n:n])
		require.NoError(t, err, "what follows does not matter")
		require.Equal(t, n, m)
		require.Equal(t, h, again)
	})
}

func header2(command, family byte, body []byte) []byte {
	b := append([]byte(proxySignature2), command, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...)
}

// fields takes types and values in turn.
func fields(list ...any) (b []byte) {
	for i := 0; i < len(list); i += 2 {
		value := list[i+1].(string)
		b = append(b, byte(list[i].(int)))
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(value))), value...)
	}
	return b
}

func addr(s string) net.Addr {
	a, err := net.ResolveTCPAddr("tcp", s)
	if err != nil {
		panic(err)
	}
	return a
}

func text(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}
