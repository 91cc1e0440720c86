package metrics

import (
	"cmp"
	"fmt"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
)

// A Config says where the metrics are registered. The zero Config registers them in
// prometheus.DefaultRegisterer.
type Config struct {
	Registerer prometheus.Registerer
}

// Metrics counts the events of one Puller, or of several. Its methods may be called
// concurrently.
type Metrics struct {
	duration    *prometheus.HistogramVec
	ensured     *prometheus.CounterVec
	ended       *prometheus.CounterVec
	credentials *prometheus.CounterVec
	running     prometheus.Gauge
	fetched     prometheus.Counter
	resumed     prometheus.Counter

	mu    sync.Mutex
	pulls map[uint64]int // by Event.Call: how many Pullers have a call of this number that waits for a registry
}

// New makes the metrics and registers them. The error is that of the Registerer, for example
// because metrics of these names are registered already.
func New(c Config) (*Metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kubelet_image_pull_duration_seconds",
			Help:    "Duration in seconds to pull an image, without the wait for its turn.",
			Buckets: []float64{1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600},
		}, []string{"image_size_in_bytes"}),
		ensured: counter("kubelet_image_manager_ensure_image_requests_total",
			"Requests for an image, by policy, by whether it was present, and by whether a pull was required.", "pull_policy", "present_locally", "pull_required"),
		ended: counter("pullkit_image_requests_total", "Requests for an image, by the event with which they ended.", "result"),
		credentials: counter("pullkit_credential_failures_total",
			"Credentials that did not open an image, by the kind of their source.", "source"),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pullkit_image_pulls_in_progress", Help: "Requests that wait for a registry now.",
		}),
		fetched: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pullkit_fetched_bytes_total", Help: "Bytes of complete blobs that were fetched.",
		}),
		resumed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pullkit_resumed_bytes_total", Help: "Bytes of complete blobs that were kept from an earlier pull, and not fetched again.",
		}),
		pulls: map[uint64]int{},
	}
	reg := c.Registerer
	if reg == nil {
		reg = prometheus.DefaultRegisterer
	}
	for i, collector := range m.all() {
		if err := reg.Register(collector); err != nil {
			for _, earlier := range m.all()[:i] {
				reg.Unregister(earlier)
			}
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.duration, m.ensured, m.ended, m.credentials, m.running, m.fetched, m.resumed}
}

// Event counts an event. It is the function for puller.Config.Events. A program with a function
// of its own there calls Event in it. Event may be called concurrently.
func (m *Metrics) Event(e puller.Event) {
	switch e.Reason {
	case puller.EventPulling:
		m.begin(e.Call)
	case puller.EventAttempt:
		if e.Attempt != nil && !e.Shared {
			m.credentials.WithLabelValues(sourceLabel(e.Attempt.Origin.Kind)).Inc()
		}
	case puller.EventProgress:
		if p := e.Progress; p != nil && p.State == puller.BlobStored && !e.Shared {
			m.fetched.Add(float64(max(p.Done-p.Resumed, 0)))
			m.resumed.Add(float64(max(p.Resumed, 0)))
		}
	case puller.EventPulled:
		if e.Attempt != nil && !e.Shared {
			m.duration.WithLabelValues(sizeLabel(e.Size)).Observe(e.Took.Seconds())
		}
		m.end(e)
	case puller.EventFailed, puller.EventNeverPull, puller.EventInspectFailed:
		m.end(e)
	case puller.EventBackOff:
		if e.Store != "" { // without it, PullWait reports the wait after a failure that was counted
			m.end(e)
		}
	}
}

// begin counts a call that waits for a registry.
func (m *Metrics) begin(call uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pulls[call]++
	m.running.Inc()
}

// end counts a request that has ended.
func (m *Metrics) end(e puller.Event) {
	m.mu.Lock()
	if n := m.pulls[e.Call]; n > 0 {
		m.running.Dec()
		if m.pulls[e.Call]--; n == 1 {
			delete(m.pulls, e.Call)
		}
	}
	m.mu.Unlock()
	m.ended.WithLabelValues(string(e.Reason)).Inc()
	present, required := presence(e)
	m.ensured.WithLabelValues(strings.ToLower(cmp.Or(string(e.Policy), unknown)), present, required).Inc()
}

const unknown = "unknown"

// presence returns the values of present_locally and pull_required, as the kubelet has them.
func presence(e puller.Event) (present, required string) {
	switch e.Store {
	case puller.StorePresent:
		return "true", "false"
	case puller.StoreNotYours:
		return "true", "true"
	case puller.StoreNotAsked:
		return unknown, "true"
	case puller.StoreAbsent:
		if e.Reason == puller.EventNeverPull {
			return "false", unknown
		}
		return "false", "true"
	}
	return unknown, unknown
}

// sourceLabel returns the label for the kind of a source. A Keyring of the program may have
// any number of other kinds, which share one label.
func sourceLabel(kind credentials.Kind) string {
	switch kind {
	case "":
		return "anonymous"
	case credentials.KindFile, credentials.KindSecret, credentials.KindHelper, credentials.KindPlugin, credentials.KindStatic, credentials.KindVariable:
		return string(kind)
	}
	return "other"
}

// sizes are the labels of the kubelet for the sizes of images, the largest first. A label is
// for images of more than over bytes.
var sizes = []struct {
	over  int64
	label string
}{
	{100 << 30, "GT100GB"},
	{60 << 30, "60GB-100GB"},
	{40 << 30, "40GB-60GB"},
	{30 << 30, "30GB-40GB"},
	{20 << 30, "20GB-30GB"},
	{10 << 30, "10GB-20GB"},
	{5 << 30, "5GB-10GB"},
	{1 << 30, "1GB-5GB"},
	{500 << 20, "500MB-1GB"},
	{100 << 20, "100MB-500MB"},
	{10 << 20, "10MB-100MB"},
	{0, "0-10MB"},
}

// sizeLabel returns the kubelet's label for the size of an image. 0 means that the size is not
// known.
func sizeLabel(size int64) string {
	for _, s := range sizes {
		if size > s.over {
			return s.label
		}
	}
	return "N/A"
}
