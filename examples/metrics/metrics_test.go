package metrics_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/examples/metrics"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// newMetrics returns metrics in a registry of their own.
func newMetrics(t testing.TB) (*metrics.Metrics, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	m, err := metrics.New(metrics.Config{Registerer: reg})
	require.NoError(t, err)
	return m, reg
}

// TestPullsAreCounted: what a Puller did with a registry is in the metrics, with the kubelet's
// names and labels.
func TestPullsAreCounted(t *testing.T) {
	reg, err := pullertest.Start(pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "good"}}})
	require.NoError(t, err)
	defer reg.Close()
	_, err = reg.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{1 << 20}})
	require.NoError(t, err)
	m, gatherer := newMetrics(t)
	rt, err := transfer.New(transfer.Config{Store: new(pullertest.MemStore)})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt, Events: m.Event})
	require.NoError(t, err)
	pull := func(image string, policy pullpolicy.Policy, passwords ...string) {
		var secrets []credentials.Secret
		for i, password := range passwords {
			data, err := credentials.DockerConfig{Server: reg.Host(), Username: "robot", Password: credentials.Conceal(password)}.JSON()
			require.NoError(t, err)
			secrets = append(secrets, credentials.Secret{Name: fmt.Sprint("s", i), Namespace: "web", Type: credentials.TypeDockerConfigJSON, Data: credentials.ConcealData(map[string][]byte{credentials.KeyDockerConfigJSON: data})})
		}
		_, _ = p.Pull(t.Context(), puller.Request{Image: image, Policy: policy, Keyring: credentials.FromSecrets(secrets, credentials.Rules{})})
	}
	image := reg.Host() + "/team/app:v1"
	pull(image, "", "stale", "good")                    // the second secret opens it
	pull(image, "", "good")                             // present
	pull(image, pullpolicy.Always, "good")              // nothing to fetch
	pull(reg.Host()+"/team/absent:v1", "")              // refused
	pull(reg.Host()+"/team/absent:v1", "")              // back-off
	pull(reg.Host()+"/team/never:v1", pullpolicy.Never) // absent
	pull("not an image", pullpolicy.Always)             // malformed
	require.NoError(t, testutil.GatherAndCompare(gatherer, strings.NewReader(`
# HELP kubelet_image_manager_ensure_image_requests_total Requests for an image, by policy, by whether it was present, and by whether a pull was required.
# TYPE kubelet_image_manager_ensure_image_requests_total counter
kubelet_image_manager_ensure_image_requests_total{present_locally="false",pull_policy="ifnotpresent",pull_required="true"} 3
kubelet_image_manager_ensure_image_requests_total{present_locally="false",pull_policy="never",pull_required="unknown"} 1
kubelet_image_manager_ensure_image_requests_total{present_locally="true",pull_policy="ifnotpresent",pull_required="false"} 1
kubelet_image_manager_ensure_image_requests_total{present_locally="unknown",pull_policy="always",pull_required="true"} 1
kubelet_image_manager_ensure_image_requests_total{present_locally="unknown",pull_policy="unknown",pull_required="unknown"} 1
# HELP pullkit_credential_failures_total Credentials that did not open an image, by the kind of their source.
# TYPE pullkit_credential_failures_total counter
pullkit_credential_failures_total{source="anonymous"} 1
pullkit_credential_failures_total{source="secret"} 1
# HELP pullkit_image_pulls_in_progress Requests that wait for a registry now.
# TYPE pullkit_image_pulls_in_progress gauge
pullkit_image_pulls_in_progress 0
# HELP pullkit_image_requests_total Requests for an image, by the event with which they ended.
# TYPE pullkit_image_requests_total counter
pullkit_image_requests_total{result="BackOff"} 1
pullkit_image_requests_total{result="ErrImageNeverPull"} 1
pullkit_image_requests_total{result="Failed"} 1
pullkit_image_requests_total{result="InspectFailed"} 1
pullkit_image_requests_total{result="Pulled"} 3
`), "kubelet_image_manager_ensure_image_requests_total", "pullkit_credential_failures_total", "pullkit_image_pulls_in_progress", "pullkit_image_requests_total"))
	families, err := gatherer.Gather()
	require.NoError(t, err)
	for _, f := range families {
		switch f.GetName() {
		case "kubelet_image_pull_duration_seconds":
			require.Len(t, f.GetMetric(), 1)
			assert.Equal(t, "0-10MB", f.GetMetric()[0].GetLabel()[0].GetValue())
			assert.EqualValues(t, 2, f.GetMetric()[0].GetHistogram().GetSampleCount(), "two pulls asked the registry and succeeded")
			assert.Len(t, f.GetMetric()[0].GetHistogram().GetBucket(), 18)
		case "pullkit_fetched_bytes_total":
			assert.Greater(t, f.GetMetric()[0].GetCounter().GetValue(), float64(1<<20))
		case "pullkit_resumed_bytes_total":
			assert.Zero(t, f.GetMetric()[0].GetCounter().GetValue())
		}
	}
}

// TestSharedPullsAndWaitsAreNotCountedTwice: a pull that several calls share is one pull, and
// the wait that PullWait reports after a failure is not a request.
func TestSharedPullsAndWaitsAreNotCountedTwice(t *testing.T) {
	m, gatherer := newMetrics(t)
	answer := &puller.Answer{}
	for call := range uint64(3) {
		m.Event(puller.Event{Call: call, Reason: puller.EventPulling, Shared: call > 0})
	}
	inProgress := func(want string) {
		t.Helper()
		require.NoError(t, testutil.GatherAndCompare(gatherer, strings.NewReader("# HELP pullkit_image_pulls_in_progress Requests that wait for a registry now.\n# TYPE pullkit_image_pulls_in_progress gauge\npullkit_image_pulls_in_progress "+want+"\n"), "pullkit_image_pulls_in_progress"))
	}
	inProgress("3")
	for call := range uint64(3) {
		m.Event(puller.Event{Call: call, Reason: puller.EventProgress, Shared: call > 0, Progress: &puller.Progress{State: puller.BlobStored, Done: 100, Resumed: 40}})
		m.Event(puller.Event{Call: call, Reason: puller.EventProgress, Shared: call > 0, Progress: &puller.Progress{State: puller.BlobFetching, Done: 100, Resumed: 40}})
		m.Event(puller.Event{Call: call, Reason: puller.EventAttempt, Shared: call > 0, Attempt: answer})
		m.Event(puller.Event{Call: call, Reason: puller.EventPulled, Shared: call > 0, Attempt: answer, Store: puller.StoreNotYours, Policy: "IfNotPresent", Size: 200 << 30, Took: time.Minute})
		m.Event(puller.Event{Call: call, Reason: puller.EventBackOff})
	}
	inProgress("0")
	page := httptest.NewRecorder()
	metrics.Page(gatherer).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/", nil))
	for _, want := range []string{
		"           1  image_size_in_bytes=GT100GB  60 s on average  nine of ten within 60 s\n",
		"           3  present_locally=true  pull_policy=ifnotpresent  pull_required=true\n",
		"           1  source=anonymous\n", "          60  \n", "          40  \n", "           3  result=Pulled\n",
	} {
		assert.Contains(t, page.Body.String(), want)
	}
	assert.NotContains(t, page.Body.String(), "result=BackOff")
}

func TestPageIsPlainText(t *testing.T) {
	m, gatherer := newMetrics(t)
	gatherer.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "other", Help: "of another package"}))
	m.Event(puller.Event{Reason: puller.EventPulled, Attempt: &puller.Answer{}, Took: 5000 * time.Second})
	server := httptest.NewServer(metrics.Page(gatherer))
	defer server.Close()
	resp, err := http.Get(server.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "text/plain; charset=utf-8", resp.Header.Get("Content-Type"))
	assert.Contains(t, string(body), "kubelet_image_pull_duration_seconds\nDuration in seconds")
	assert.Contains(t, string(body), "image_size_in_bytes=N/A  5000 s on average  more than one of ten above all limits")
	assert.NotContains(t, string(body), "another package")
	resp, err = http.Post(server.URL, "text/plain", nil)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	failing := httptest.NewRecorder()
	metrics.Page(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, fs.ErrInvalid })).ServeHTTP(failing, httptest.NewRequest(http.MethodGet, "/", nil))
	assert.Equal(t, http.StatusInternalServerError, failing.Code)
}

// TestKindsOfOtherKeyringsShareALabel: a Keyring of the program may name its credentials
// as it likes, also with bytes that Prometheus refuses.
func TestKindsOfOtherKeyringsShareALabel(t *testing.T) {
	m, gatherer := newMetrics(t)
	for _, kind := range []credentials.Kind{"vault", "\xff", "a.example/a:1"} {
		m.Event(puller.Event{Reason: puller.EventAttempt, Attempt: &puller.Answer{Origin: credentials.Origin{Kind: kind}}})
	}
	require.NoError(t, testutil.GatherAndCompare(gatherer, strings.NewReader(`
# HELP pullkit_credential_failures_total Credentials that did not open an image, by the kind of their source.
# TYPE pullkit_credential_failures_total counter
pullkit_credential_failures_total{source="other"} 3
`), "pullkit_credential_failures_total"))
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	_, gatherer := newMetrics(t)
	_, err := metrics.New(metrics.Config{Registerer: gatherer})
	assert.ErrorContains(t, err, "duplicate")
}

// A program counts the events of a Puller, and shows the metrics as a page.
func Example() {
	registry := prometheus.NewRegistry()
	m, err := metrics.New(metrics.Config{Registerer: registry})
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := puller.New(puller.Config{Runtime: empty{}, Events: m.Event})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Pull(context.Background(), puller.Request{Image: "busybox:1", Policy: pullpolicy.Never})
	fmt.Println(err)
	page := httptest.NewRecorder()
	metrics.Page(registry).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/", nil)) // http.Handle("/", metrics.Page(registry))
	for line := range strings.Lines(page.Body.String()) {
		if strings.Contains(line, "requests_total") || strings.Contains(line, "result=") {
			fmt.Print(line)
		}
	}
	// Output:
	// image "busybox:1": ErrImageNeverPull: not present, and the pull policy is Never
	// kubelet_image_manager_ensure_image_requests_total
	// pullkit_image_requests_total
	//              1  result=ErrImageNeverPull
}

// empty is a Runtime without images.
type empty struct{}

func (empty) Status(context.Context, puller.Spec) (puller.Image, error) {
	return puller.Image{}, fs.ErrNotExist
}

func (empty) Pull(context.Context, puller.Spec) (puller.Image, error) {
	return puller.Image{}, fs.ErrNotExist
}
