package registry

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/expiring"
	"github.com/pullkit/pullkit/internal/redact"
)

const (
	// maxWarnings is how many warnings of one host are logged an hour.
	maxWarnings = 10
	// warningAge is the time after which a host's warnings are forgotten.
	warningAge = time.Hour
	// maxWarningHosts is how many hosts' warnings are remembered.
	maxWarningHosts = 1024
	// maxWarningText is how many characters of a warning are logged.
	maxWarningText = 200
)

// warnings remembers which warnings were logged, so that a server that repeats a
// warning in each answer does not fill the log.
type warnings struct {
	mu    sync.Mutex
	hosts expiring.Map[string, *[]string] // by host, the warnings logged within warningAge
}

// isNew reports whether a warning is to be logged, and if so, remembers it as logged.
func (w *warnings) isNew(host, text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts, ok := w.hosts.Get(host)
	if !ok {
		texts = new([]string)
		w.hosts.Put(host, texts, time.Now().Add(warningAge))
	}
	if len(*texts) == maxWarnings || slices.Contains(*texts, text) {
		return false
	}
	*texts = append(*texts, text)
	return true
}

// log logs the Warning headers of an answer (OCI distribution specification,
// "Warnings"). Only a warning with the code 299 and the agent "-" counts.
func (w *warnings) log(ctx context.Context, log *slog.Logger, host string, header http.Header, secrets []string) {
	logged := 0
	for _, value := range header.Values("Warning") {
		for _, text := range warningTexts(value) {
			if logged++; logged > maxWarnings {
				return
			}
			text = redact.CutCharacters(redact.Secrets(text, secrets...), maxWarningText)
			if w.isNew(host, text) {
				log.WarnContext(ctx, "warning of the registry", "host", redact.Text(host, secrets...), "warning", redact.Text(text, secrets...))
			}
		}
	}
}

// warningTexts returns the texts in a list of warnings of the form 299 - "text". It
// stops at the first warning that cannot be read.
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
