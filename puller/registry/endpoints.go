package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/pullkit/pullkit/puller/content"
)

// reread is how long a hosts.toml is believed before it is looked at again.
const reread = 30 * time.Second

// endpoints keeps the hosts of each registry, with their connections.
type endpoints struct {
	mu     sync.Mutex
	byName map[string]*known
}

// known is what is known of one registry.
type known struct {
	list  []*endpoint
	print string    // of the files that list was made from; "" if from none
	until time.Time // when to look at the files again; zero for never
}

func (e *endpoints) each(do func(*endpoint)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range e.byName {
		for _, ep := range k.list {
			do(ep)
		}
	}
}

// of returns the hosts to ask for the images of a registry, in order; the last
// is the registry itself.
func (c *Client) of(registry string) ([]*endpoint, error) {
	e := &c.endpoints
	e.mu.Lock()
	defer e.mu.Unlock()
	k := e.byName[registry]
	if k != nil && (k.until.IsZero() || time.Now().Before(k.until)) {
		return k.list, nil
	}
	hosts, configured := c.Hosts[registry]
	print, until := "", time.Time{}
	if !configured && c.CertsDir != "" {
		var err error
		until = time.Now().Add(reread)
		if hosts, print, err = readHosts(c.CertsDir, registry, c.RootCAs); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fail(content.ErrConfig, registry, err)
		}
		if k != nil && k.print == print {
			k.until = until
			return k.list, nil
		}
	}
	list, err := c.make(registry, hosts)
	if err != nil {
		return nil, fail(content.ErrConfig, registry, err)
	}
	if k != nil {
		for _, ep := range k.list {
			ep.closeIdle()
		}
	}
	if e.byName == nil {
		e.byName = map[string]*known{}
	}
	e.byName[registry] = &known{list, print, until}
	return list, nil
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
