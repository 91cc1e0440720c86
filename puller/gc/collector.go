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
	// High and Low are percentages of the file system. If High percent or more are used, a
	// round removes images until only Low percent are used. A zero High is 85, and a zero Low
	// is 80, as in the kubelet (imageGCHighThresholdPercent, imageGCLowThresholdPercent). A
	// negative number is 0 percent. Low must not be higher than High.
	High, Low int
	// MinAge is for how long an image is kept after it came into the store or was last used.
	// Zero is 2 minutes, as in the kubelet (imageMinimumGCAge). With a negative MinAge no
	// image is kept because of its age.
	MinAge time.Duration
	// MaxAge is how long an image may be unused before it is removed, even if the file system
	// has enough space (imageMaximumGCAge). For an image that was never used, the time counts
	// from when the image came into the store. Zero is no limit, as in the kubelet.
	MaxAge time.Duration
	// InUse yields the IDs or names of the images that are in use: the images of all
	// containers and of all image volumes. Containers that have stopped and may start again
	// are included. A round calls InUse once, after it has listed the images. If InUse yields
	// an error, the round ends with this error and removes nothing. If the manifest of a digest
	// in use is damaged, a round that has to remove something removes nothing, and returns an
	// error. InUse must not start a round. Nil: no image is in use.
	//
	// A digest is best: the ID of a puller.Image, or name@digest. It also keeps an image that
	// the store does not list, because its tags have moved to other images, and the content
	// that this image shares with images that are removed. A tag keeps only the image that it
	// leads to now. The digest of a config, which is an ID in CRI, keeps only listed images.
	InUse func(ctx context.Context) iter.Seq2[string, error]
	// Pinned reports whether an image must stay, in addition to the images that the store
	// pins. It may be called concurrently. Nil: only the store pins images.
	Pinned func(Image) bool
	// Usage returns how full the file system of the images is. Nil is [FileSystem] of the
	// directory of Images, which must then be a [Directory].
	Usage func(ctx context.Context) (Usage, error)
	// StateDir is the directory of the small file gc.json, in which the last use of each
	// image survives a restart. The directory is made if it is missing. Processes that
	// collect or use the same images need the same StateDir. A round sees the uses of another
	// process up to a minute later. "" is the directory .pullkit in the directory of Images.
	// If StateDir is "" and Images is not a [Directory], nothing survives a restart, and
	// after a restart all images count as new.
	StateDir string
	// Sweep removes the records of images that are not in the store any more. The method
	// Sweep of puller.Puller or of records.Dir can be used. Sweep is called at the end of
	// each round that has removed images or has found images to be gone. before is the time
	// of a new list of the store, which the round makes after that. Nil: nothing is swept.
	Sweep func(ctx context.Context, before time.Time, stored func(id string) bool) error
	// AsKubelet makes the Collector decide in all points as the kubelet of Kubernetes 1.36 to
	// 1.38 beta does; see the package comment. StateDir must then be empty, because the
	// kubelet keeps the last uses in memory only.
	AsKubelet bool
	// Now returns the present time. It may be called concurrently. Nil is time.Now.
	Now func() time.Time
	// Logger gets failures that are not returned by a call, and each removal at level debug.
	// Nil: no log.
	Logger *slog.Logger
}

// The kubelet's defaults.
const (
	defaultHigh   = 85
	defaultLow    = 80
	defaultMinAge = 2 * time.Minute
)

// A Collector removes images that are not needed. [New] makes a Collector; the zero
// Collector cannot be used. Its methods may be called concurrently. Several processes may
// collect the images of one store, if they have the same Config.StateDir: one round runs
// at a time. A Collector must be closed.
type Collector struct {
	config  Config    // with its defaults
	state   *stateDir // nil: records are kept in memory only
	started time.Time
	rounds  keylock.Locks // one round at a time in this process

	mu      sync.Mutex
	records map[string]record // by the ID of an image
	news    map[string]record // the part of records that the state file does not have yet
	written time.Time         // when the state file was last written
	timer   *time.Timer       // of the next write; nil if no write is due
	closed  bool

	ended    chan struct{} // closed at the end of the first Close
	closeErr error         // of the first Close

	background context.Context // the context of the writes that timers start; Close ends it
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
			return nil, errors.New("gc: Config.Usage is nil, and the directory of Config.Images is not known; set Usage, for example to what FileSystem returns")
		}
		config.Usage = FileSystem(dir)
	}
	config.High, config.Low = max(cmp.Or(config.High, defaultHigh), 0), max(cmp.Or(config.Low, defaultLow), 0)
	switch {
	case config.High > 100:
		return nil, fmt.Errorf("gc: Config.High is %d percent; it must be at most 100", config.High)
	case config.Low > config.High:
		return nil, fmt.Errorf("gc: Config.Low is %d percent, and Config.High is %d percent; Low must not be higher than High", config.Low, config.High)
	case config.MaxAge < 0:
		return nil, fmt.Errorf("gc: Config.MaxAge is %v; it must be 0 or more", config.MaxAge)
	case config.AsKubelet && config.StateDir != "":
		return nil, fmt.Errorf("gc: Config.StateDir is %q, but AsKubelet keeps the last uses in memory only; set only one of the two", config.StateDir)
	}
	config.MinAge = max(cmp.Or(config.MinAge, defaultMinAge), 0)
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Collector{config: config, started: config.Now(), records: make(map[string]record), news: make(map[string]record)}
	c.ended = make(chan struct{})
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

// Used notes that the image with the ID id, as in puller.Image, is used now. It does no
// I/O: the state file is written later, at most once a minute. Set puller.Config.Used so
// that a puller.Puller calls it for each image that the Puller returns:
//
//	puller.Config{Used: func(image puller.Image) { collector.Used(image.ID) }}
//
// Then the age of an image that was pulled and never used counts from its pull. Without
// calls of Used, it counts from the first round that has seen the image.
func (c *Collector) Used(id string) {
	now := c.config.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.records[id]; !known && len(c.records) >= maxRecords {
		return // these are more IDs than a store has images; rounds see the images that exist
	}
	c.note(id, record{first: now, used: now})
	c.writeSoon()
}

// note merges rec into the record of an image. The caller holds mu.
func (c *Collector) note(id string, rec record) {
	c.records[id] = c.records[id].merge(rec)
	if c.state != nil {
		c.news[id] = c.news[id].merge(rec)
	}
}

// writeEvery is the least time between two writes of the state file, except after rounds
// that have removed images.
const writeEvery = time.Minute

// writeSoon sets a timer that writes the state file when writeEvery has passed since the
// last write. The caller holds mu.
func (c *Collector) writeSoon() {
	if c.state == nil || c.timer != nil || c.closed {
		return
	}
	wait := writeEvery - c.config.Now().Sub(c.written)
	if c.written.IsZero() || wait > writeEvery {
		wait = 0 // the file was never written, or the clock was set back
	}
	c.writes.Add(1)
	c.timer = time.AfterFunc(max(wait, 0), func() {
		defer c.writes.Done()
		ctx, cancel := context.WithTimeout(c.background, writeEvery)
		defer cancel()
		if err := c.flush(ctx); err != nil && c.background.Err() == nil {
			c.config.Logger.Warn("the last uses of images were not written", "error", err)
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

// flush writes news into the state file. It takes the lock that processes share, so it
// waits while a round runs.
func (c *Collector) flush(ctx context.Context) error {
	c.mu.Lock()
	c.stopTimer()
	nothing := len(c.news) == 0
	if !nothing {
		c.written = c.config.Now() // so that Used starts no second write during this one
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

// write writes the state file: saved, which is its present content, merged with news. If
// the write fails, news stays.
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

// Close writes the last uses that the state file does not have yet. If a round runs, Close
// waits for its end, 10 seconds at most. A round that ends later writes them itself. Used may
// still be called after Close, but only a later round writes those uses. A second Close waits
// for the first one and returns its error.
func (c *Collector) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.stopTimer()
	c.mu.Unlock()
	if first {
		c.closeErr = c.writeLast()
		close(c.ended)
	}
	<-c.ended
	return c.closeErr
}

// writeLast is the first call of Close.
func (c *Collector) writeLast() error {
	c.stop() // ends a write that waits for the lock; the flush below writes instead
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
