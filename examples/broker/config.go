package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/limit"
	"github.com/petrelmq/petrel/listeners"
)

// config is what the configuration file and the flags say together.
type config struct {
	file            string
	version         bool
	check           bool
	tcp             []door // nil means the default addresses, empty means none
	tls             []door
	ws              []door
	wss             []door
	unix            []door
	web             listeners.WebSocketOptions // what pages and proxies may do; nothing else is set in it
	tlsFiles        tlsFiles                   // of all listeners that have none of their own
	anonymous       policy
	certificateName certificateName
	outlive         bool // a connection may outlive the certificate of its client
	peerUserName    peerUserName
	passwords       string // file
	acl             string // file
	grantAll        bool   // subscriptions, also to what the ACL file does not let the client read
	scram           scramFiles
	jwt             tokens
	site            site           // authentication.http
	rates           *limit.Options // of connects; nil without any
	data            string         // directory; empty means that nothing outlives the process
	sync            syncPolicy
	log             slog.Level
	limits          petrel.Options // nothing but limits is set in it
}

// tlsFiles are the names of PEM files, and how they are used; see
// listeners.CertificateFiles.
type tlsFiles struct {
	certificate, key, clientCA, crl string

	optional bool // a client may have no certificate
	expired  bool // a revocation list may be past its next update
	stay     bool // of clients that are connected, those that are not trusted any more stay
}

// scramFiles are the names of the file of credentials, and of one with the key
// that the salts of unknown users are made of.
type scramFiles struct{ file, saltKeyFile string }

func defaults() config {
	return config{ws: doorsAt(overWS, "127.0.0.1:8083"), anonymous: localOnly}
}

// errUsage is returned for a command line that cannot be understood.
var errUsage = errors.New("usage")

// parse puts defaults, file and flags together, each above the one before.
// What is wrong with the flags is written to w.
func parse(args []string, w io.Writer) (config, error) {
	c := defaults()
	if err := c.parseFlags(args, w); err != nil || c.file == "" {
		return c, err
	}
	// The flags named the file; now they are laid over what it says.
	file := c.file
	c = defaults()
	if err := c.readFile(file); err != nil {
		return c, err
	}
	return c, c.parseFlags(args, w)
}

func (c *config) parseFlags(args []string, w io.Writer) error {
	f := flag.NewFlagSet("broker", flag.ContinueOnError)
	f.SetOutput(w)
	f.Func("tcp", "listen for MQTT on `ADDR`, several separated by commas or by repeating the flag;\n"+
		`"" turns it off (default "127.0.0.1:1883,[::1]:1883")`, addresses(overTCP, &c.tcp))
	f.Func("ws", "listen for MQTT over WebSocket on `ADDR`, given as with -tcp;\n"+
		`"" turns it off (default "127.0.0.1:8083")`, addresses(overWS, &c.ws))
	f.TextVar(&c.anonymous, "anonymous", c.anonymous, "admit clients without asking for credentials: `WHO` is local (from this\n"+
		"machine), any or none")
	f.StringVar(&c.data, "data", c.data, "keep sessions and messages in `DIR`, so that they outlive the process;\n"+
		"without it all is in memory. See also: broker check|dump|compact DIR")
	f.TextVar(&c.sync, "sync", c.sync, "sync what is kept to the disk `WHEN`: each (before it is acknowledged), never,\n"+
		"or after a time such as 1s")
	f.StringVar(&c.file, "config", "", "read a configuration from `FILE` (JSON); flags stand above it")
	f.TextVar(&c.log, "log", c.log, "log at `LEVEL` debug, info, warn or error, and above")
	f.BoolVar(&c.check, "check-config", false, "read the configuration and all files that it names, say whether they are\n"+
		"right, and exit")
	f.BoolVar(&c.version, "version", false, "print the version and exit")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return errUsage
	case f.NArg() > 0:
		fmt.Fprintf(w, "unexpected argument %q\n", f.Arg(0))
		f.Usage()
		return errUsage
	}
	return nil
}

// addresses returns the function of a flag that fills list: its first use
// replaces what was there, each further one adds to it.
func addresses(t transport, list *[]door) func(string) error {
	used := false
	return func(value string) error {
		if !used {
			*list, used = []door{}, true
		}
		for a := range strings.SplitSeq(value, ",") {
			if a = strings.TrimSpace(a); a != "" {
				*list = append(*list, doorsAt(t, a)...)
			}
		}
		return nil
	}
}
