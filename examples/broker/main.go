// Broker is petrel as a program of its own. With no flags it serves the
// clients of this machine, anonymously, on port 1883, and on port 8083 over
// WebSocket; see -help for the rest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
)

func main() {
	os.Exit(status(os.Args[1:]))
}

// status is the whole program; it returns the exit status: 0 after an orderly
// end, 1 after an error, 2 when the command line cannot be understood.
func status(args []string) int {
	if len(args) > 0 && offlineCommands[args[0]] != nil {
		return offline(offlineCommands[args[0]], args[1:], os.Stdout, os.Stderr)
	}
	c, err := parse(args, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2 // package flag has said why
	case err != nil:
		fmt.Fprintln(os.Stderr, "petrel:", err)
		return 1
	case c.version:
		fmt.Println("petrel", version(), runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
		return 0
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once

	reload := make(chan os.Signal, 1)
	notifyReload(reload)

	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.log}))
	if c.check {
		c.data = "" // which a running broker may have
		broker, _, err := prepare(&c, log)
		if err != nil {
			log.Error("the configuration is wrong", "error", err)
			return 1
		}
		log.Info("the configuration is right")
		_ = broker.Close()
		return 0
	}
	if err := run(ctx, c, log, reload); err != nil {
		log.Error("petrel stops", "error", err)
		return 1
	}
	return 0
}

// version is that of the module, "(devel)" in a checkout.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}
