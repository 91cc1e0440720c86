package metrics

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Page returns a handler that shows, in plain text, what each metric of this package in
// gatherer means, and its values. A reader needs only a browser or curl. Metrics of other
// packages are left out. The status is 500 if gatherer fails, and 405 if the method is not GET
// or HEAD.
func Page(gatherer prometheus.Gatherer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		families, err := gatherer.Gather()
		if err != nil {
			http.Error(w, "the metrics cannot be read: "+err.Error(), http.StatusInternalServerError)
			return
		}
		var page bytes.Buffer
		for _, f := range families {
			if ours(f.GetName()) {
				writeFamily(&page, f)
			}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Write(page.Bytes())
	})
}

// ours reports whether a metric is of this package.
func ours(name string) bool {
	return strings.HasPrefix(name, "kubelet_image_") || strings.HasPrefix(name, "pullkit_")
}

func writeFamily(page *bytes.Buffer, f *dto.MetricFamily) {
	if page.Len() > 0 {
		page.WriteByte('\n')
	}
	fmt.Fprintf(page, "%s\n%s\n", f.GetName(), f.GetHelp())
	for _, m := range f.GetMetric() {
		fmt.Fprintf(page, "  %12s  %s\n", value(m), labels(m))
	}
}

// value returns the value of a counter or of a gauge, or how many values a histogram has.
func value(m *dto.Metric) string {
	switch {
	case m.GetCounter() != nil:
		return number(m.GetCounter().GetValue())
	case m.GetGauge() != nil:
		return number(m.GetGauge().GetValue())
	}
	return strconv.FormatUint(m.GetHistogram().GetSampleCount(), 10)
}

func labels(m *dto.Metric) string {
	var texts []string
	for _, l := range m.GetLabel() {
		texts = append(texts, l.GetName()+"="+l.GetValue())
	}
	if h := m.GetHistogram(); h.GetSampleCount() > 0 {
		texts = append(texts, fmt.Sprintf("%s s on average", number(h.GetSampleSum()/float64(h.GetSampleCount()))), within(h))
	}
	return strings.Join(texts, "  ")
}

// within returns a text about the smallest limit of a bucket below which nine tenths of the
// values are.
func within(h *dto.Histogram) string {
	const tenths = 9
	for _, b := range h.GetBucket() {
		if b.GetCumulativeCount()*10 >= h.GetSampleCount()*tenths {
			return fmt.Sprintf("nine of ten within %s s", number(b.GetUpperBound()))
		}
	}
	return "more than one of ten above all limits"
}

// number returns a number without an exponent, with at most three digits after the decimal
// point.
func number(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(v, 'f', 3, 64), "0"), ".")
}
