package storetest

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/petrelmq/petrel/internal/brokertest"
	"github.com/petrelmq/petrel/packets"
)

// RunFull lets the disk become full under a process with a broker on a store:
// nothing may be acknowledged that is not there later, when there is room again and
// the broker is started again. recovers says that the store goes on without that.
// How the process is started is said at [RunKilled].
//
// One disk is full because no file may grow above a limit, which needs RLIMIT_FSIZE;
// another one because it is small, which needs Linux and the rights to mount it.
// Where there is neither, the test is skipped, and fails with CI in the environment.
func RunFull(t *testing.T, open Open, recovers bool) {
	if serve(t, open) {
		return
	}
	tried := 0
	for _, d := range []disk{&limitedFiles{}, &smallDisk{}} {
		if err := d.setUp(t); err != nil {
			t.Logf("%T: %v", d, err)
			continue
		}
		tried++
		runFull(t, d, recovers)
	}
	switch {
	case tried > 0:
	case os.Getenv("CI") != "":
		t.Fatal("no disk can be made full here")
	default:
		t.Skip("no disk can be made full here")
	}
}

// disk is one that becomes full.
type disk interface {
	setUp(t *testing.T) error
	dir() string
	fill(t *testing.T, p *process)
	widen(t *testing.T, p *process)
}

const roomLeft = 256 << 10 // bytes, when a disk is filled

func runFull(t *testing.T, d disk, recovers bool) {
	t.Helper()
	p := startProcess(t, d.dir())
	var address atomic.Value
	address.Store(p.address)
	l := brokertest.NewLedger(func() (net.Conn, error) { return net.DialTimeout("tcp", address.Load().(string), time.Second) })
	defer l.Close()
	watcher := connectTo(t, p.address, brokertest.Durable("watcher"))
	watcher.Subscribe(packets.ExactlyOnce, "t/#")
	watcher.Send(&packets.Disconnect{})
	watcher.ExpectClosed()

	d.fill(t, p)
	publishers := []*brokertest.Publisher{
		l.Publisher("t/1", packets.AtLeastOnce, false, 20, 0),
		l.Publisher("t/2", packets.ExactlyOnce, false, 20, 0),
	}
	p.await("petrel: the store failed")
	refused(t, p.address)
	full := publishers[0].Acknowledged()
	d.widen(t, p)
	goesOn := func() bool { return publishers[0].Acknowledged() > full }
	if recovers {
		brokertest.Eventually(t, "publishers go on", goesOn)
	}
	p.kill()
	again := startProcess(t, d.dir())
	address.Store(again.address)
	brokertest.Eventually(t, "publishers go on after a restart", goesOn)
	for _, x := range publishers {
		x.Finish()
	}
	all := l.Subscriber("watcher", "t/#", packets.ExactlyOnce)
	for i, x := range publishers {
		topic := fmt.Sprintf("t/%d", i+1)
		brokertest.Eventually(t, topic+" is acknowledged and delivered", func() bool {
			return x.Acknowledged() == x.Sent() && all.Last(topic) == x.Sent()
		})
	}
	l.Close()
	if broken := l.Broken(); len(broken) > 0 {
		t.Fatalf("%T: %d promises were broken: %q", d, len(broken), broken)
	}
	again.kill()
	t.Logf("%T: full after %d messages with QoS 1; %d and %d in the end", d, full, publishers[0].Sent(), publishers[1].Sent())
}

func connectTo(t *testing.T, address string, p packets.Connect) *brokertest.Client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := brokertest.NewClient(t, conn, packets.V5)
	p.ReceiveMaximum = 100
	c.Send(&p)
	if ack := brokertest.Expect[*packets.Connack](c); ack.Reason != packets.Success {
		t.Fatalf("CONNECT was refused: %v", ack.Reason)
	}
	return c
}

// refused publishes what would have to be kept: the answer is why it is not.
func refused(t *testing.T, address string) {
	t.Helper()
	c := connectTo(t, address, brokertest.ID("late"))
	c.Send(&packets.Publish{Topic: []byte("t/late"), QoS: packets.AtLeastOnce, PacketID: 1})
	c.ExpectDisconnect(packets.QuotaExceeded)
}

// limitedFiles is a disk on which no file may grow above a limit.
type limitedFiles struct{ path string }

func (d *limitedFiles) setUp(t *testing.T) error {
	d.path = t.TempDir()
	if !canLimitFiles {
		return errors.ErrUnsupported
	}
	return nil
}

func (d *limitedFiles) dir() string { return d.path }

func (d *limitedFiles) fill(t *testing.T, p *process) {
	p.order(fmt.Sprint(limitOrder, largestFile(t, d.path)+roomLeft))
}

func (d *limitedFiles) widen(_ *testing.T, p *process) { p.order(fmt.Sprint(limitOrder, "none")) }

// limitOrder tells a process how many bytes its files may have.
const limitOrder = "limit "

// obey does what a process is told to.
func obey(order string) error {
	limit, ok := strings.CutPrefix(order, limitOrder)
	if !ok {
		return fmt.Errorf("what is %q?", order)
	}
	if limit == "none" {
		return limitFiles(-1)
	}
	n, err := strconv.ParseInt(limit, 10, 64)
	if err != nil {
		return err
	}
	return limitFiles(n)
}

// largestFile returns the bytes of the largest file of a directory.
func largestFile(t *testing.T, dir string) (most int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			most = max(most, info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return most
}
