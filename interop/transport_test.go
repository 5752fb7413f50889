package interop

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// transport is a way from a client to the broker.
type transport struct {
	name         string // in the names of tests, and of what the scripts are told
	title        string // in README.md
	key          string // in the configuration of ../examples/broker
	as           string // the transport that a client takes it for; empty means that of its name
	proxy        int    // the version of the PROXY protocol that a proxy in front of the broker speaks; 0 means that there is none
	secure       bool   // TLS
	mutual       bool   // with a certificate of the client
	web          bool   // WebSocket
	everyVersion bool   // clients come with each version that they speak; else with the newest
}

var (
	tcp = transport{name: "tcp", title: "TCP", key: "tcp", everyVersion: true}

	transports = []transport{
		tcp,
		{name: "tls", title: "TLS", key: "tls", secure: true, everyVersion: true},
		{name: "mtls", title: "TLS, both sides with a certificate", key: "tls", secure: true, mutual: true},
		{name: "ws", title: "WebSocket", key: "ws", web: true, everyVersion: true},
		{name: "wss", title: "WebSocket over TLS", key: "wss", secure: true, web: true},
		{name: "unix", title: "Unix socket", key: "unix"},
		{name: "proxy1", title: "TCP by way of a proxy, PROXY version 1", key: "tcp", as: "tcp", proxy: 1},
		{name: "proxy2", title: "TLS by way of a proxy, PROXY version 2", key: "tls", as: "tls", secure: true, proxy: 2},
	}
)

// broker returns the one that all tests share.
func (tr transport) broker() *broker {
	if tr.mutual {
		return sharedMutual
	}
	return shared
}

// seen is the name of the transport that a client takes it for.
func (tr transport) seen() string {
	if tr.as != "" {
		return tr.as
	}
	return tr.name
}

// network is what package net calls it.
func (tr transport) network() string {
	if tr.name == "unix" {
		return "unix"
	}
	return "tcp"
}

// over returns the versions with which a client is run over a transport.
func (d driver) over(tr transport) []string {
	switch {
	case !slices.Contains(d.transports, tr.seen()):
		return nil
	case tr.everyVersion:
		return d.versions
	}
	return d.versions[len(d.versions)-1:]
}

// matrix is the table of what TestClients runs.
func matrix() string {
	var b strings.Builder
	b.WriteString("| over |")
	for _, d := range drivers {
		fmt.Fprintf(&b, " %s |", d.title)
	}
	b.WriteString("\n" + strings.Repeat("|---", 1+len(drivers)) + "|\n")
	for _, tr := range transports {
		fmt.Fprintf(&b, "| %s |", tr.title)
		for _, d := range drivers {
			fmt.Fprintf(&b, " %s |", strings.Join(d.over(tr), ", "))
		}
		b.WriteString("\n")
	}
	return strings.ReplaceAll(b.String(), "|  |", "| no |")
}

// README.md says what is run, no more and no less. So does the README.md of the
// repository: a test there compares the two.
func TestReadmeHasTheMatrix(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(strings.ReplaceAll(string(text), "\r\n", "\n"), "| over |")
	table, _, _ := strings.Cut("| over |"+rest, "\n\n")
	require.Equal(t, matrix(), table+"\n")
}

func TestEachTransportHasTwoClients(t *testing.T) {
	for _, tr := range transports {
		clients := 0
		for _, d := range drivers {
			if len(d.over(tr)) > 0 {
				clients++
			}
		}
		require.GreaterOrEqual(t, clients, 2, tr.title)
	}
}
