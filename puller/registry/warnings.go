package registry

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/redact"
)

const (
	// maxWarnings is how many warnings of one host are logged an hour.
	maxWarnings = 10
	// warningAge is after what time a host's warnings are forgotten.
	warningAge = time.Hour
	// maxWarningHosts is how many hosts' warnings are remembered. The host whose
	// hour began first makes room.
	maxWarningHosts = 1024
	// maxWarningText is how many characters of a warning are logged.
	maxWarningText = 200
)

// warnings remembers which warnings were logged, so that a server that repeats one
// with each answer does not fill the log.
type warnings struct {
	mu    sync.Mutex
	hosts map[string]*hostWarnings
}

// hostWarnings is what one host warned of since an hour began.
type hostWarnings struct {
	since time.Time
	texts []string
}

// isNew reports whether a warning shall be logged, and remembers that it was.
func (w *warnings) isNew(host, text string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := w.hosts[host]
	if known == nil || now.Sub(known.since) >= warningAge {
		w.makeRoom(now)
		known = &hostWarnings{since: now}
		w.hosts[host] = known
	}
	if len(known.texts) == maxWarnings || slices.Contains(known.texts, text) {
		return false
	}
	known.texts = append(known.texts, text)
	return true
}

// makeRoom forgets hosts whose hour is over, and the oldest one if that is not
// enough.
func (w *warnings) makeRoom(now time.Time) {
	if w.hosts == nil {
		w.hosts = map[string]*hostWarnings{}
	}
	if len(w.hosts) < maxWarningHosts {
		return
	}
	oldest, since := "", now
	for host, h := range w.hosts {
		switch {
		case now.Sub(h.since) >= warningAge:
			delete(w.hosts, host)
		case !h.since.After(since):
			oldest, since = host, h.since
		}
	}
	if len(w.hosts) >= maxWarningHosts {
		delete(w.hosts, oldest)
	}
}

// logWarnings logs the Warning headers of an answer (OCI distribution
// specification, "Warnings"). Only code 299 with the agent "-" is one.
func (c *Client) logWarnings(ctx context.Context, host string, header http.Header, secrets []string) {
	logged := 0
	for _, value := range header.Values("Warning") {
		for _, text := range warningTexts(value) {
			if logged++; logged > maxWarnings {
				return
			}
			text = cutRunes(redact.Secrets(text, secrets...), maxWarningText)
			if c.warnings.isNew(host, text, time.Now()) {
				c.logger().WarnContext(ctx, "warning of the registry", "host", redact.Text(host, secrets...), "warning", redact.Text(text, secrets...))
			}
		}
	}
}

// warningTexts reads a list of warnings of the form: 299 - "text". What follows one
// that cannot be read is left out.
func warningTexts(value string) []string {
	var texts []string
	p := challengeParser{rest: value}
	for {
		p.rest = strings.TrimLeft(p.rest, " \t,")
		code := p.token()
		p.space()
		agent, rest, _ := strings.Cut(p.rest, " ")
		p.rest = rest
		p.space()
		if code == "" || !strings.HasPrefix(p.rest, `"`) {
			return texts
		}
		text, err := p.quoted(false)
		if err != nil {
			return texts
		}
		if code == "299" && agent == "-" && text != "" {
			texts = append(texts, text)
		}
	}
}
