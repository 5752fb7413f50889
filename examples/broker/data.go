package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/store/bolt"
)

// The commands that need no broker: those that look after a data directory while
// no broker has it, and one that makes credentials.
var offlineCommands = map[string]func(argument string, w io.Writer) error{
	"check":      checkData,
	"dump":       dumpData,
	"compact":    compactData,
	"credential": func(user string, w io.Writer) error { return credential(user, os.Stdin, w) },
}

const offlineUsage = `usage: broker check|dump|compact DIR
       broker credential USER

check       says whether all of the data can be read
dump        prints every record as a line of text
compact     rewrites the data without the room that nothing needs
credential  reads a password from its input, and prints the line of a SCRAM file
`

// offline runs a command, which has one argument.
func offline(run func(string, io.Writer) error, args []string, out, errs io.Writer) int {
	f := flag.NewFlagSet("broker", flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() { fmt.Fprint(errs, offlineUsage) }
	if err := f.Parse(args); err != nil || f.NArg() != 1 {
		if err == nil {
			f.Usage()
		}
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if err := run(f.Arg(0), out); err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	return 0
}

// openData opens the data of a directory, which is made where there is none.
func openData(dir string, log *slog.Logger) (petrel.Store, error) {
	return bolt.Open(dir, bolt.Options{Logger: log})
}

// records calls each for every record, and returns how many there are.
func records(dir string, each func(petrel.StoreRecord) error) (n int, err error) {
	if err := bolt.Check(dir); err != nil { // before Open, which would begin to mend it
		return 0, err
	}
	s, err := openData(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return n, petrel.InspectStore(context.Background(), s, func(r petrel.StoreRecord) error {
		n++
		return each(r)
	})
}

func checkData(dir string, w io.Writer) error {
	var wrong []error
	kinds := make(map[string]int)
	n, err := records(dir, func(r petrel.StoreRecord) error {
		kinds[r.Kind]++
		if r.Err != nil {
			wrong = append(wrong, r.Err)
		}
		return nil
	})
	if err = errors.Join(append(wrong, err)...); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: all %d records can be read: %d sessions, %d subscriptions, %d retained messages, %d messages on their way\n",
		dir, n, kinds["session"], kinds["subscription"], kinds["retained"], kinds["delivery"])
	if set := kinds["unreadable"]; set > 0 {
		fmt.Fprintf(w, "%s: %d records were set aside because they could not be read\n", dir, set)
	}
	return nil
}

func dumpData(dir string, w io.Writer) error {
	_, err := records(dir, func(r petrel.StoreRecord) error {
		text := r.Text
		if r.Err != nil {
			text = r.Err.Error()
		}
		_, err := fmt.Fprintln(w, r.Kind+":", text)
		return err
	})
	return err
}

func compactData(dir string, w io.Writer) error {
	before, after, err := bolt.Compact(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: %d bytes before, %d after\n", dir, before, after)
	return nil
}

// syncPolicy is written "each", "never" or as a duration.
type syncPolicy petrel.SyncPolicy

func (p syncPolicy) MarshalText() ([]byte, error) {
	switch petrel.SyncPolicy(p) {
	case petrel.SyncEach:
		return []byte("each"), nil
	case petrel.SyncNever:
		return []byte("never"), nil
	}
	return []byte(time.Duration(p).String()), nil
}

func (p *syncPolicy) UnmarshalText(text []byte) error {
	switch string(text) {
	case "each":
		*p = syncPolicy(petrel.SyncEach)
		return nil
	case "never":
		*p = syncPolicy(petrel.SyncNever)
		return nil
	}
	var d duration
	if err := d.UnmarshalText(text); err != nil || d <= 0 {
		return fmt.Errorf(`%q is none of each, never, or a duration such as "1s"`, text)
	}
	*p = syncPolicy(petrel.SyncInterval(time.Duration(d)))
	return nil
}
