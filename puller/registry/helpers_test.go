package registry_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// protocols is a log handler that notes which protocols requests were answered with.
type protocols struct {
	mu   sync.Mutex
	seen []string
}

func (p *protocols) logger() *slog.Logger { return slog.New(p) }

func (p *protocols) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

func (p *protocols) Enabled(context.Context, slog.Level) bool { return true }
func (p *protocols) WithAttrs([]slog.Attr) slog.Handler       { return p }
func (p *protocols) WithGroup(string) slog.Handler            { return p }

func (p *protocols) Handle(_ context.Context, r slog.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "protocol" && !slices.Contains(p.seen, a.Value.String()) {
			p.seen = append(p.seen, a.Value.String())
		}
		return true
	})
	return nil
}
