package registry

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/puller/content"
)

const (
	// reread is how long a hosts.toml is believed before it is looked at again.
	reread = 30 * time.Second
	// maxRegistries is how many registries are remembered. Of more, those go first
	// that have not been asked for the longest time; those in use stay.
	maxRegistries = 2048
	// maxConns is how many connections stay open when they are idle, in all. A
	// registry that is in use keeps its own.
	maxConns = 256
	// maxReaders is how many registries' files are read at a time: on a file system
	// that does not answer each one holds a thread of the system.
	maxReaders = 16
)

// endpoints keeps the hosts of each registry, with their connections.
type endpoints struct {
	conns atomic.Int64 // open, used and idle

	mu       sync.Mutex
	byName   map[string]*known
	idle     list.List // of the *known that are not in use; the longest idle is first
	readings map[string]*reading
	readers  chan struct{} // has an entry for each reading under way

	read func(certsDir, registry string) (Hosts, string, error) // nil: readHosts; for tests
}

// known is what is known of one registry.
type known struct {
	registry string
	list     []*endpoint
	print    string    // of the files that list was made from; "" if from none
	until    time.Time // when to look at the files again; zero for never

	// Guarded by endpoints.mu.
	users int           // calls and bodies that may ask its hosts
	place *list.Element // in endpoints.idle; nil while it is in use
	gone  bool          // it has been replaced or forgotten
}

func (k *known) closeIdle() {
	for _, ep := range k.list {
		ep.closeIdle()
	}
}

// closeIdle closes the idle connections of all registries.
func (e *endpoints) closeIdle() {
	e.mu.Lock()
	all := make([]*known, 0, len(e.byName))
	for _, k := range e.byName {
		all = append(all, k)
	}
	e.mu.Unlock()
	for _, k := range all { // closing may take its time
		k.closeIdle()
	}
}

// of returns the hosts to ask for the images of a registry, in order; the last is the
// registry itself. They are in use until release.
func (c *Client) of(ctx context.Context, registry string) (*known, error) {
	e := &c.endpoints
	e.mu.Lock()
	if k := e.byName[registry]; k != nil && (k.until.IsZero() || time.Now().Before(k.until)) {
		defer e.mu.Unlock()
		return e.use(k), nil
	}
	e.mu.Unlock()
	hosts, configured := c.Hosts[registry]
	if configured || c.CertsDir == "" {
		return c.know(registry, hosts, "", time.Time{})
	}
	// The files are read outside the lock: what holds the reader up must not hold up
	// calls to other registries.
	r, err := c.readFiles(ctx, registry)
	if err != nil {
		return nil, err
	}
	return c.know(registry, r.hosts, r.print, r.until)
}

// know makes what is known of a registry from its hosts, unless there is one that was
// made from the same files, and begins to use it.
func (c *Client) know(registry string, hosts Hosts, print string, until time.Time) (*known, error) {
	e := &c.endpoints
	var over []*known
	defer func() {
		for _, k := range over {
			k.closeIdle()
		}
	}()
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.byName[registry]
	if old != nil && old.print == print {
		old.until = until
		return e.use(old), nil
	}
	list, err := c.make(registry, hosts)
	if err != nil {
		return nil, fail(content.ErrConfig, registry, err)
	}
	if old != nil {
		over = append(over, e.forget(old))
	}
	for len(e.byName) >= maxRegistries && e.idle.Len() > 0 {
		over = append(over, e.forget(e.idle.Front().Value.(*known)))
	}
	if e.byName == nil {
		e.byName = map[string]*known{}
	}
	k := &known{registry: registry, list: list, print: print, until: until}
	e.byName[registry] = k
	return e.use(k), nil
}

// use marks k as in use. The caller holds the lock.
func (e *endpoints) use(k *known) *known {
	if k.users++; k.place != nil {
		e.idle.Remove(k.place)
		k.place = nil
	}
	return k
}

// forget takes k out. The caller holds the lock, and closes k's idle connections once
// it does not.
func (e *endpoints) forget(k *known) *known {
	if k.place != nil {
		e.idle.Remove(k.place)
		k.place = nil
	}
	k.gone = true
	delete(e.byName, k.registry)
	return k
}

// release ends a use of k.
func (e *endpoints) release(k *known) {
	e.mu.Lock()
	last := false
	if k.users--; k.users == 0 {
		if last = k.gone; !last {
			k.place = e.idle.PushBack(k)
		}
	}
	e.mu.Unlock()
	if last {
		k.closeIdle() // this was the last one who knew of it
	}
	e.trim()
}

// trim closes idle connections of registries that are not in use, of the longest idle
// first, while there are too many connections.
func (e *endpoints) trim() {
	if e.conns.Load() <= maxConns {
		return
	}
	e.mu.Lock()
	idle := make([]*known, 0, e.idle.Len())
	for at := e.idle.Front(); at != nil; at = at.Next() {
		idle = append(idle, at.Value.(*known))
	}
	e.mu.Unlock()
	for _, k := range idle {
		if e.conns.Load() <= maxConns {
			return
		}
		k.closeIdle()
	}
}

// A reading is the files of one registry being read, for all who wait for that.
type reading struct {
	done     chan struct{} // closed when it is over; then these are set:
	hosts    Hosts
	print    string
	until    time.Time
	err      error
	panicked *panics.Error
}

// readFiles reads what CertsDir says of a registry. Whoever waits can leave: with its
// context, and after the stall time in any case. The reading itself may go on, and the
// next call waits for the same one.
func (c *Client) readFiles(ctx context.Context, registry string) (*reading, error) {
	limit := time.NewTimer(c.stall())
	defer limit.Stop()
	late := func() error {
		return failf(content.ErrConfig, registry, "CertsDir could not be read within %v: its file system does not answer", c.stall())
	}
	r := c.endpoints.underWay(registry)
	if r == nil {
		select {
		case c.endpoints.readers <- struct{}{}:
			r = c.beginReading(registry)
		case <-ctx.Done():
			return nil, canceled(ctx, registry)
		case <-limit.C:
			return nil, late()
		}
	}
	select {
	case <-r.done:
		r.panicked.Raise()
		return r, r.err
	case <-ctx.Done():
		return nil, canceled(ctx, registry)
	case <-limit.C:
		return nil, late()
	}
}

// underWay returns the reading of a registry's files that goes on, if there is one.
func (e *endpoints) underWay(registry string) *reading {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.readers == nil {
		e.readers = make(chan struct{}, maxReaders)
	}
	return e.readings[registry]
}

// beginReading begins to read a registry's files; the caller has put an entry into
// readers. If another caller was faster, its reading serves.
func (c *Client) beginReading(registry string) *reading {
	e := &c.endpoints
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.readings[registry]; r != nil {
		<-e.readers
		return r
	}
	r := &reading{done: make(chan struct{})}
	if e.readings == nil {
		e.readings = map[string]*reading{}
	}
	e.readings[registry] = r
	go panics.Catch(func() {
		read := e.read
		if read == nil {
			read = func(certsDir, registry string) (Hosts, string, error) {
				return readHosts(certsDir, registry, c.RootCAs)
			}
		}
		hosts, print, err := read(c.CertsDir, registry)
		if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoCertsDir) {
			err = nil // nothing is configured for this registry
		}
		if err != nil {
			err = fail(content.ErrConfig, registry, err)
		}
		r.hosts, r.print, r.err = hosts, print, err
	}, func(panicked *panics.Error) {
		r.panicked, r.until = panicked, time.Now().Add(reread)
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.readings, registry)
		<-e.readers
		close(r.done)
	})
	return r
}

func (c *Client) make(registry string, hosts Hosts) ([]*endpoint, error) {
	var list []*endpoint
	for i, h := range hosts.Mirrors {
		ep, err := c.newEndpoint(registry, h)
		if err != nil {
			return nil, fmt.Errorf("mirror %d: %w", i+1, err)
		}
		list = append(list, ep)
	}
	ep, err := c.server(registry, hosts.Server)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	// Often the registry stands in the list as well, with its settings. Asking
	// it again without them would only hide what it answered.
	if n := len(list); n > 0 && *list[n-1].base == *ep.base && list[n-1].can(Pull) && list[n-1].can(Resolve) {
		return list, nil
	}
	return append(list, ep), nil
}
