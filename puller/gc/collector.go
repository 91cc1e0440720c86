package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/keylock"
)

// A Config has the settings of a Collector. Only Images must be set.
type Config struct {
	// Images are the images that are collected, for example those that [FromStore] returns.
	Images Images
	// High is how many percent of the file system must be used before images that are not
	// too old are removed. Low is down to how many percent. A zero High is 85, and a zero
	// Low is 80, as in the kubelet (imageGCHighThresholdPercent, imageGCLowThresholdPercent).
	// A negative number is 0 percent. Low must not be higher than High.
	High, Low int
	// MinAge is for how long an image is kept after it came into the store or was last
	// used. Zero is 2 minutes, as in the kubelet (imageMinimumGCAge). A negative MinAge
	// keeps no image for its age.
	MinAge time.Duration
	// MaxAge is how long an image may be unused before it is removed, however much space
	// there is (imageMaximumGCAge). An image that was never used counts from when it came
	// into the store. Zero is no limit, as in the kubelet.
	MaxAge time.Duration
	// InUse yields the images that are in use, by any ID or name: those of all containers
	// and of all image volumes, also of containers that have stopped and may start again. It
	// is asked once in each round, after the images were listed. It protects the images in
	// the list: a layout.Layout does not list an image whose names now lead to other images,
	// so keep what a program needs longer under its digest too, as by a pull of name@digest.
	// If it yields an error, the
	// round ends with this error and removes nothing. It must not start a round. Nil: no image
	// is in use.
	InUse func(ctx context.Context) iter.Seq2[string, error]
	// Pinned reports whether an image must stay, in addition to those that the store pins.
	// It may be called concurrently. Nil: only the store pins images.
	Pinned func(Image) bool
	// Usage returns how full the file system of the images is. Nil is [FileSystem] of the
	// directory of Images, which must then be a [Directory].
	Usage func(ctx context.Context) (Usage, error)
	// StateDir is the directory of the small file gc.json, in which the last use of each
	// image survives a restart. It is made if it is missing. Processes that collect the same
	// images, or use them, need the same StateDir. A round sees the uses of another process up
	// to a minute later. "" is the directory .pullkit in the
	// directory of Images. If Images is not a [Directory], nothing survives a restart, and
	// all images then count as new.
	StateDir string
	// Sweep removes the records of images that are not in the store any more, as the method
	// Sweep of puller.Puller and of records.Dir. It is called at the end of each round in
	// which images were removed or found to be gone. before is when the store was listed
	// again after that. Nil: nothing is swept.
	Sweep func(ctx context.Context, before time.Time, stored func(id string) bool) error
	// AsKubelet decides in all points as the kubelet of Kubernetes 1.36 to 1.38 beta; see
	// the package comment. StateDir must be empty, because the kubelet keeps what it knows
	// in memory only.
	AsKubelet bool
	// Now returns the present time. It can be called in several goroutines at the same time.
	// Nil is time.Now.
	Now func() time.Time
	// Logger gets failures that fail no call, and each removal at level debug. Nil: no log.
	Logger *slog.Logger
}

// The kubelet's defaults.
const (
	defaultHigh   = 85
	defaultLow    = 80
	defaultMinAge = 2 * time.Minute
)

// A Collector removes images that are not needed. [New] makes it. Its methods may be called
// concurrently, and several processes may collect the images of one store: one round runs at
// a time. A Collector must be closed.
type Collector struct {
	config  Config    // with its defaults
	state   *stateDir // nil: what is known is kept in memory only
	started time.Time
	rounds  keylock.Locks // one round at a time in this process

	mu      sync.Mutex
	records map[string]record // what is known of each image
	news    map[string]record // of it, what the state file does not have yet
	written time.Time         // when the state file was last written
	timer   *time.Timer       // of the next write; nil if none is due
	closed  bool

	background context.Context // of the writes that timers start; Close ends it
	stop       context.CancelFunc
	writes     sync.WaitGroup // the timers that are set, and the writes that they started
}

// New returns a Collector. The error names the field of config that is not valid. New does
// not read the state file: [Collector.Round] reads it each time.
func New(config Config) (*Collector, error) {
	if config.Images == nil {
		return nil, errors.New("gc: Config.Images is nil; set it, for example to what FromStore returns")
	}
	dir := ""
	if d, ok := config.Images.(Directory); ok {
		dir = d.Dir()
	}
	if config.Usage == nil {
		if dir == "" {
			return nil, errors.New("gc: Config.Usage is nil, and Images are in no known directory; set it, for example to what FileSystem returns")
		}
		config.Usage = FileSystem(dir)
	}
	config.High, config.Low = max(cmp.Or(config.High, defaultHigh), 0), max(cmp.Or(config.Low, defaultLow), 0)
	switch {
	case config.High > 100:
		return nil, fmt.Errorf("gc: Config.High is %d percent; it must be at most 100", config.High)
	case config.Low > config.High:
		return nil, fmt.Errorf("gc: Config.Low is %d percent, more than the %d percent of High; it must not be higher", config.Low, config.High)
	case config.MaxAge < 0:
		return nil, fmt.Errorf("gc: Config.MaxAge is %v; it must be 0 or more", config.MaxAge)
	case config.AsKubelet && config.StateDir != "":
		return nil, fmt.Errorf("gc: Config.StateDir is %q, and AsKubelet keeps what is known in memory only; leave one of them out", config.StateDir)
	}
	config.MinAge = max(cmp.Or(config.MinAge, defaultMinAge), 0)
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Collector{config: config, started: config.Now(), records: make(map[string]record), news: make(map[string]record)}
	c.background, c.stop = context.WithCancel(context.Background())
	if !config.AsKubelet {
		if config.StateDir == "" && dir != "" {
			config.StateDir = filepath.Join(dir, ".pullkit")
		}
		if config.StateDir != "" {
			abs, err := filepath.Abs(config.StateDir)
			if err != nil {
				return nil, fmt.Errorf("gc: Config.StateDir: %w", err)
			}
			c.state = newStateDir(abs)
		}
	}
	return c, nil
}

// Used notes that the image with that ID, as in puller.Image, is used now. It does no I/O:
// the state file is written soon after, at most once a minute. A puller.Puller calls it for
// each image that it returns:
//
//	puller.Config{Used: func(image puller.Image) { collector.Used(image.ID) }}
//
// An image that was pulled and never used then counts from its pull. Without Used it counts
// from the first round that has seen it.
func (c *Collector) Used(id string) {
	now := c.config.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.records[id]; !known && len(c.records) >= maxRecords {
		return // more IDs than a store can have images; rounds see the real ones
	}
	c.note(id, record{first: now, used: now})
	c.writeSoon()
}

// note merges what is known of an image with rec. The caller holds mu.
func (c *Collector) note(id string, rec record) {
	c.records[id] = c.records[id].merge(rec)
	if c.state != nil {
		c.news[id] = c.news[id].merge(rec)
	}
}

// writeEvery is the least time between two writes of the state file, except after rounds
// that have removed images.
const writeEvery = time.Minute

// writeSoon has the state file written when writeEvery is over. The caller holds mu.
func (c *Collector) writeSoon() {
	if c.state == nil || c.timer != nil || c.closed {
		return
	}
	wait := writeEvery - c.config.Now().Sub(c.written)
	if c.written.IsZero() || wait > writeEvery {
		wait = 0 // it was never written, or the clock was set back
	}
	c.writes.Add(1)
	c.timer = time.AfterFunc(max(wait, 0), func() {
		defer c.writes.Done()
		ctx, cancel := context.WithTimeout(c.background, writeEvery)
		defer cancel()
		if err := c.flush(ctx); err != nil && c.background.Err() == nil {
			c.config.Logger.Warn("the last use of images was not written", "error", err)
		}
	})
}

// stopTimer stops the timer of the next write. The caller holds mu.
func (c *Collector) stopTimer() {
	if c.timer != nil && c.timer.Stop() {
		c.writes.Done()
	}
	c.timer = nil
}

// flush writes into the state file what it does not have yet. It takes the lock among
// processes, so it waits while a round runs.
func (c *Collector) flush(ctx context.Context) error {
	c.mu.Lock()
	c.stopTimer()
	nothing := len(c.news) == 0
	if !nothing {
		c.written = c.config.Now() // so that Used has no second write begun meanwhile
	}
	c.mu.Unlock()
	if c.state == nil || nothing {
		return nil
	}
	fsys, unlock, err := c.state.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	saved, err := c.state.read(fsys, c.config.Now())
	if err != nil {
		return err
	}
	return c.write(fsys, saved)
}

// write writes the file: what it has, with what is new.
func (c *Collector) write(fsys disk.FS, saved map[string]record) error {
	c.mu.Lock()
	news := c.news
	c.news = make(map[string]record)
	c.written = c.config.Now()
	c.mu.Unlock()
	for id, rec := range news {
		saved[id] = saved[id].merge(rec)
	}
	err := c.state.write(fsys, saved)
	if err != nil {
		c.mu.Lock()
		for id, rec := range news {
			c.news[id] = c.news[id].merge(rec)
		}
		c.mu.Unlock()
	}
	return err
}

// Close writes the last uses that the state file does not have yet. It waits for a round that
// runs, 10 seconds at most. Used may still be called, and is then only remembered in memory.
// A second Close does nothing.
func (c *Collector) Close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.stopTimer()
	c.mu.Unlock()
	if closed {
		return nil
	}
	c.stop() // a write that waits for the lock leaves it to the flush below
	c.writes.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	if err := c.flush(ctx); err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	return nil
}

// closeWait is how long Close waits for the lock of the state file.
const closeWait = 10 * time.Second
