package scripted

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pullkit/pullkit/puller/pullertest"
)

// A Job is one pull that TestScenario asks for.
type Job struct {
	Image     string // host:port/repository:tag
	PlainHTTP bool   // the image's registry speaks http, not https
	Platform  string // os/architecture
	Config    []byte // a config.json with the credentials
	CA        []byte // PEM certificates that https may trust; nil means none
	Box       string // a working directory in which only Store may be written
	Store     string // the directory to store the image in; it need not exist
	// Dial connects to the registry. On sockets it is net.Dialer's DialContext.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Log receives all that the pull logs or prints. Several goroutines may write to it.
	Log io.Writer
	// PeakMB may be called with the peak memory of the pulling process.
	PeakMB func(int64)
}

// TestScenario plays a scenario to a puller and judges what the puller does. The registry is
// in the network in memory, or on sockets if network is nil. box is an empty directory for
// the store. pull pulls once, and returns nil exactly if the image is complete in the store.
// Its context ends where the scenario kills the puller, and when the puller hangs. A pull
// that has started a program kills it then, and a pull in this process returns.
//
// The error is nil if the pulls do all that the scenario expects, and otherwise lists what
// is wrong.
func TestScenario(ctx context.Context, sc Scenario, network *pullertest.Network, box string, pull func(context.Context, Job) error) (err error) {
	stage, err := Play(sc, network)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	var wrong []error
	for i, run := range sc.runs() {
		stage.BeginRun(i)
		for _, step := range run.Before {
			if err := stage.prepare(step, box); err != nil {
				return fmt.Errorf("scenario %q, run %d: %s: %w", sc.Name, i, step, err)
			}
		}
		outs, err := stage.run(ctx, run, box, pull)
		if err != nil {
			return err
		}
		if run.KillAfter > 0 && !outs[0].Killed {
			wrong = append(wrong, fmt.Errorf("scenario %q, run %d: the pull ended before the scenario killed it", sc.Name, i))
		}
		for _, out := range outs {
			wrong = append(wrong, stage.Judge(i, out))
		}
	}
	return errors.Join(wrong...)
}

// prepare does one of the steps of Run.Before.
func (s *Stage) prepare(step, box string) error {
	op, id, _ := strings.Cut(step, ":")
	store, elsewhere := filepath.Join(box, "store"), filepath.Join(box, "elsewhere")
	name := s.Fill("{{hex:" + id + "}}")
	switch op {
	case "flip", "truncate":
		return damage(store, name, op == "flip")
	case "symlink-blobs":
		return plant(elsewhere, filepath.Join(store, "blobs"), elsewhere)
	case "symlink-blob":
		return plant(filepath.Join(elsewhere, "victim"), filepath.Join(store, "blobs", "sha256", name), elsewhere)
	}
	return fmt.Errorf("unknown step %q", step)
}

// plant makes a symbolic link and the directory elsewhere.
func plant(target, link, elsewhere string) error {
	for _, dir := range []string{elsewhere, filepath.Dir(link)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.Symlink(target, link)
}

// damage flips a bit of a blob in the store, or cuts it in half.
func damage(store, name string, flip bool) error {
	path := ""
	err := filepath.WalkDir(store, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() == name {
			path = p
		}
		return err
	})
	if err != nil {
		return err
	}
	if path == "" {
		return fmt.Errorf("no file %.12s in the store", name)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if flip {
		data[len(data)/2] ^= 0x10
	} else {
		data = data[:len(data)/2]
	}
	return os.WriteFile(path, data, 0o644)
}

// run starts the pullers of a run and waits for them.
func (s *Stage) run(ctx context.Context, run Run, box string, pull func(context.Context, Job) error) ([]Outcome, error) {
	config, err := s.ConfigJSON()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, run.Expect.within()+time.Second)
	defer cancel()
	var killed <-chan struct{}
	if run.KillAfter > 0 {
		killed = s.notifySent(run.KillAfter)
	}
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-killed:
			cancel()
		case <-ended:
		}
	})
	outs := make([]Outcome, max(run.Parallel, 1))
	var pulls sync.WaitGroup
	for i := range outs {
		pulls.Go(func() { outs[i] = s.pullOnce(ctx, config, box, pull) })
	}
	pulls.Wait()
	close(ended)
	watching.Wait()
	for i := range outs {
		select {
		case <-killed:
			outs[i].Killed = true
		default:
		}
	}
	return outs, nil
}

func (s *Stage) pullOnce(ctx context.Context, config []byte, box string, pull func(context.Context, Job) error) Outcome {
	out := Outcome{Box: box}
	dial := (&net.Dialer{}).DialContext
	if s.network != nil {
		dial = s.network.DialContext
	}
	var log lockedBuffer
	start := time.Now()
	out.Err = pull(ctx, Job{
		Image: s.Image(), PlainHTTP: !strings.HasPrefix(s.Image(), s.Fill("{{tls}}/")), Platform: s.Platform(),
		Config: config, CA: s.CA(), Box: box, Store: filepath.Join(box, "store"), Dial: dial, Log: &log,
		PeakMB: func(mb int64) { out.PeakMB = max(out.PeakMB, mb) },
	})
	out.Took = time.Since(start)
	out.Output = log.bytes()
	return out
}

// A lockedBuffer keeps what several goroutines write, up to one byte more than is allowed.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := maxOutput + 1 - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *lockedBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}
