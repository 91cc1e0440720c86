package puller_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/backoff"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/pullpolicy"
)

func ExampleNew() {
	_, err := puller.New(puller.Config{})
	fmt.Println(err)
	// Output: puller: Config.Runtime is nil; set it, for example to what transfer.New returns
}

func ExamplePuller_Pull() {
	p, err := puller.New(puller.Config{Runtime: &memory{passwords: map[string]string{"registry.example/team/app": "right"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	img, err := p.Pull(ctx, puller.Request{
		Image:   "registry.example/team/app:v1",
		Keyring: pullSecret("team", "registry.example", "right"),
		Pod:     credentials.Pod{Namespace: "team", Name: "web", UID: "1"},
	})
	fmt.Println(img.Ref, img.Size, err)
	// Output: registry.example/team/app:v1 4096 <nil>
}

func ExamplePuller_PullWait() {
	ctx, cancel := context.WithCancelCause(context.Background())
	p, err := puller.New(puller.Config{
		Runtime: &memory{passwords: map[string]string{"registry.example/app": "right"}},
		Events: func(e puller.Event) {
			if e.Reason == puller.EventBackOff { // PullWait is about to wait for 10 s
				cancel(errors.New("the node is drained"))
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.PullWait(ctx, puller.Request{Image: "registry.example/app:v1"})
	fmt.Println(err)
	// Output: image "registry.example/app:v1": ErrImagePull: the node is drained; the last try ended with ErrImagePull: without a credential: 401 Unauthorized: permission denied
}

func ExamplePuller_PullAll() {
	p, err := puller.New(puller.Config{Runtime: &memory{}, Parallel: 4})
	if err != nil {
		fmt.Println(err)
		return
	}
	images := slices.Values([]puller.Request{{Image: "registry.k8s.io/pause:3.10"}, {Image: "BAD"}, {Image: "busybox"}})
	pulled, failed := 0, 0
	for _, result := range p.PullAll(context.Background(), images) {
		if result.Err != nil {
			failed++
			continue
		}
		pulled++
	}
	fmt.Println(pulled, failed)
	// Output: 2 1
}

func ExampleResult() {
	p, err := puller.New(puller.Config{Runtime: &memory{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for req, result := range p.PullAll(context.Background(), slices.Values([]puller.Request{{Image: "busybox:1.36"}})) {
		fmt.Println(req.Image, result.Image.Digest[:19], result.Present, result.Err)
	}
	// Output: busybox:1.36 sha256:d55432289a2f false <nil>
}

func ExamplePuller_Resolve() {
	p, err := puller.New(puller.Config{Runtime: &memory{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	pinned, err := p.Resolve(context.Background(), puller.Request{Image: "busybox:1.36"})
	fmt.Println(pinned.Familiar()[:32], err)
	// Output: busybox:1.36@sha256:d55432289a2f <nil>
}

func ExamplePuller_Explain() {
	p, err := puller.New(puller.Config{
		Runtime:  &memory{passwords: map[string]string{"registry.example:5000/team/app": "right"}},
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := p.Explain(context.Background(), puller.Request{
		Image:   "registry.example:5000/team/app:v2",
		Keyring: pullSecret("team", "registry.example:5000/team", "right"),
		Pod:     credentials.Pod{Namespace: "team", UID: "1"},
	})
	fmt.Print(d)
	fmt.Println(err)
	// Output:
	// image       registry.example:5000/team/app:v2
	//   parsed    host registry.example:5000  repository team/app  tag v2  digest -
	//   platform  linux/amd64
	// policy      IfNotPresent        (default: tag is not latest)
	//   store     absent              -> pull
	// back-off    none                (key: 1, registry.example:5000/team/app:v2; failures: 0)
	// credentials 1 candidate
	//   1  secret "team/regcred", key "registry.example:5000/team"   user robot   matches
	// attempts    1  secret "team/regcred", key "registry.example:5000/team": accepted
	// manifest    sha256:99fdb4e3977a
	// blobs       0 to fetch (0 bytes), 0 already present
	// <nil>
}

func ExampleDecision() {
	p, err := puller.New(puller.Config{Runtime: &memory{}, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := p.Explain(context.Background(), puller.Request{Image: "busybox:1", Policy: pullpolicy.Never})
	if err != nil {
		fmt.Println(err)
		return
	}
	data, err := json.Marshal(d)
	fmt.Println(string(data), err)
	// Output: {"image":"busybox:1","registry":"docker.io","repository":"library/busybox","tag":"1","platform":"linux/amd64","policy":"Never","policyWhy":"as requested","store":"absent","action":"fail","reason":"ErrImageNeverPull","why":"not present, and the pull policy is Never"} <nil>
}

func ExampleAction() {
	p, err := puller.New(puller.Config{Runtime: &memory{busy: errors.New("404 Not Found")}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, req := context.Background(), puller.Request{Image: "registry.example/typo:v1", Policy: pullpolicy.Always}
	_, err = p.Pull(ctx, req)
	fmt.Println(reason(err))
	d, err := p.Explain(ctx, req)
	fmt.Println(d.Action, d.Reason, d.BackOff.Failures, err, d.Action == puller.ActionWait)
	// Output:
	// ErrImagePull
	// wait ImagePullBackOff 1 <nil> true
}

func ExampleWindow() {
	w := puller.Window{Key: "pod-1, registry.example/app:v1", Failures: 2, Wait: 15 * time.Second}
	data, err := json.Marshal(w)
	fmt.Println(string(data), err)
	// Output: {"key":"pod-1, registry.example/app:v1","failures":2,"waitSeconds":15} <nil>
}

func ExampleCandidate() {
	p, err := puller.New(puller.Config{Runtime: &memory{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := p.Explain(context.Background(), puller.Request{
		Image:   "registry.example/app:v1",
		Keyring: credentials.Join(pullSecret("a", "registry.example", "x"), pullSecret("a", "other.example", "y")),
	})
	for _, c := range d.Candidates {
		fmt.Println(c.Order, c.Key, c.Why)
	}
	fmt.Println(err)
	// Output:
	// 1 registry.example matches
	// 0 other.example the host is another one
	// <nil>
}

func ExampleEntry() {
	data, err := json.Marshal(puller.Entry{Digest: "sha256:77", Platform: "linux/s390x", Why: "architecture"})
	fmt.Println(string(data), err)
	// Output: {"digest":"sha256:77","platform":"linux/s390x","why":"architecture"} <nil>
}

func ExampleConfig() {
	p, err := puller.New(puller.Config{
		Runtime:  &memory{},
		Keyring:  pullSecret("", "registry.example", "of the node"),
		Parallel: 4,                                // the kubelet's maxParallelImagePulls
		Backoff:  backoff.Config{Jitter: 0.5},      // nodes do not retry all at once
		Kubelet:  puller.Kubelet{KeepWindow: true}, // a repaired secret waits, as in the kubelet
		Events:   func(e puller.Event) { fmt.Println(e.Type, e.Reason) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Pull(context.Background(), puller.Request{Image: "registry.example/app:v1"})
	fmt.Println(err)
	// Output:
	// Normal Pulling
	// Normal Pulled
	// <nil>
}

func ExampleConfig_backoff() {
	p, err := puller.New(puller.Config{
		Runtime: &memory{busy: errors.New("404 Not Found")},
		Backoff: backoff.Config{Initial: time.Hour, Max: 24 * time.Hour},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Pull(context.Background(), puller.Request{Image: "registry.example/typo:v1"})
	var e *puller.Error
	fmt.Println(errors.As(err, &e), e.RetryAfter.Round(time.Minute))
	// Output: true 1h0m0s
}

func ExampleKubelet() {
	// nginx and docker.io/library/nginx:latest are one image; to the kubelet they are two.
	for _, kubelet := range []puller.Kubelet{{}, {NameAsWritten: true}} {
		p, err := puller.New(puller.Config{Runtime: &memory{busy: errors.New("404 Not Found")}, Kubelet: kubelet})
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, name := range []string{"nginx", "docker.io/library/nginx:latest"} {
			_, err := p.Pull(context.Background(), puller.Request{Image: name})
			fmt.Print(reason(err), " ")
		}
	}
	// Output: ErrImagePull ImagePullBackOff ErrImagePull ErrImagePull
}

func ExampleRequest() {
	p, err := puller.New(puller.Config{Runtime: &memory{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	img, err := p.Pull(context.Background(), puller.Request{
		Image:    "registry.k8s.io/pause:3.10",
		Policy:   pullpolicy.IfNotPresent,
		Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"},
	})
	fmt.Println(img.Ref, err)
	// Output: registry.k8s.io/pause:3.10 <nil>
}

func ExampleError() {
	p, err := puller.New(puller.Config{Runtime: &memory{passwords: map[string]string{"registry.example/app": "right"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	req := puller.Request{Image: "registry.example/app:v1", Keyring: pullSecret("team", "registry.example", "stale")}
	_, err = p.Pull(context.Background(), req)
	fmt.Println(err)
	var e *puller.Error
	if errors.As(err, &e) {
		fmt.Println(e.Message())
		fmt.Println(errors.Is(err, fs.ErrPermission), e.Attempts[0].Origin.Name, e.RetryAfter.Round(time.Second))
	}
	// Output:
	// image "registry.example/app:v1": ErrImagePull: with secret "team/regcred", key "registry.example": 401 Unauthorized: permission denied
	// 401 Unauthorized: permission denied
	// true regcred 10s
}

func ExampleReason() {
	p, err := puller.New(puller.Config{Runtime: &memory{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Pull(context.Background(), puller.Request{Image: "busybox:1", Policy: pullpolicy.Never})
	switch {
	case errors.Is(err, puller.ErrImagePullBackOff):
		fmt.Println("try again later")
	case errors.Is(err, puller.ErrImageNeverPull):
		fmt.Println("preload it")
	}
	// Output: preload it
}

func ExampleRetryError() {
	limit := &puller.RetryError{After: time.Minute, Err: errors.New("429 Too Many Requests")}
	p, err := puller.New(puller.Config{Runtime: &memory{busy: limit}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Pull(context.Background(), puller.Request{Image: "busybox:1"})
	fmt.Println(err)
	// Output: image "busybox:1": ErrImagePull: without a credential: 429 Too Many Requests; next try in 1m0s
}

func ExampleForeignSecretError() {
	p, err := puller.New(puller.Config{Runtime: &memory{passwords: map[string]string{"registry.example/app": "right"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Pull(context.Background(), puller.Request{
		Image:   "registry.example/app:v1",
		Keyring: pullSecret("team-a", "registry.example", "right"),
		Pod:     credentials.Pod{Namespace: "team-b"},
	})
	var foreign *puller.ForeignSecretError
	fmt.Println(errors.As(err, &foreign), foreign)
	// Output: true the Secret is of another namespace than the Pod, which is in "team-b"
}

func ExampleAnswer() {
	p, err := puller.New(puller.Config{Runtime: &memory{passwords: map[string]string{"registry.example/app": "right"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Pull(context.Background(), puller.Request{Image: "registry.example/app:v1"})
	var e *puller.Error
	if errors.As(err, &e) {
		data, err := json.Marshal(e.Answers())
		fmt.Println(string(data), err)
	}
	// Output: [{"from":"no credential","error":"401 Unauthorized: permission denied"}] <nil>
}

func ExampleEvent() {
	events := json.NewEncoder(os.Stdout) // one JSON object a line
	p, err := puller.New(puller.Config{
		Runtime:  &memory{},
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Events: func(e puller.Event) {
			e.Time = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			if e.Reason == puller.EventPulling {
				_ = events.Encode(e)
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Pull(context.Background(), puller.Request{Image: "busybox:1", Pod: credentials.Pod{Namespace: "team", Name: "web", UID: "1"}})
	fmt.Println(err)
	// Output:
	// {"time":"2026-01-02T03:04:05Z","call":1,"type":"Normal","reason":"Pulling","message":"Pulling image \"busybox:1\"","image":"busybox:1","pod":{"namespace":"team","name":"web","uid":"1"},"platform":"linux/amd64","policy":"IfNotPresent"}
	// <nil>
}

func ExampleEventReason() {
	event := puller.Event{Reason: puller.EventNeverPull}
	switch event.Reason {
	case puller.EventNeverPull, puller.EventInspectFailed:
		fmt.Println("waiting does not help:", event.Reason)
	}
	// Output: waiting does not help: ErrImageNeverPull
}

func ExampleStoreState() {
	d := puller.Decision{Store: puller.StoreNotYours}
	fmt.Println(d.Store == puller.StorePresent, d.Store)
	// Output: false present, but not for this Pod
}

func ExampleConfig_asKubelet() {
	// nginx and docker.io/library/nginx:latest are one image; to the kubelet they are two.
	for _, asKubelet := range []bool{false, true} {
		rt := &memory{busy: errors.New("404 Not Found")}
		p, err := puller.New(puller.Config{Runtime: rt, AsKubelet: asKubelet})
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, name := range []string{"nginx", "docker.io/library/nginx:latest"} {
			_, err = p.Pull(context.Background(), puller.Request{Image: name, Policy: pullpolicy.Always})
			fmt.Print(reason(err), " ")
		}
	}
	// Output: ErrImagePull ImagePullBackOff ErrImagePull ErrImagePull
}

// Events become log records.
func ExampleEvent_slog() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	p, err := puller.New(puller.Config{
		Runtime: &memory{passwords: map[string]string{"registry.example/app": "right"}},
		Events: func(e puller.Event) {
			level := slog.LevelInfo
			if e.Type == "Warning" {
				level = slog.LevelWarn
			}
			log.Log(context.Background(), level, e.Message, "reason", e.Reason, "image", e.Image, "pod", e.Pod.Name)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Pull(context.Background(), puller.Request{Image: "registry.example/app:v1", Pod: credentials.Pod{Name: "web"}})
	fmt.Println(reason(err))
	// Output:
	// level=INFO msg="Pulling image \"registry.example/app:v1\"" reason=Pulling image=registry.example/app:v1 pod=web
	// level=WARN msg="Failed to pull image \"registry.example/app:v1\" without a credential: 401 Unauthorized: permission denied" reason=AttemptFailed image=registry.example/app:v1 pod=web
	// level=WARN msg="Failed to pull image \"registry.example/app:v1\": 401 Unauthorized: permission denied" reason=Failed image=registry.example/app:v1 pod=web
	// ErrImagePull
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func ExamplePanicError() {
	p, err := puller.New(puller.Config{Runtime: brokenRuntime{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() {
		if panicked, ok := recover().(*puller.PanicError); ok {
			fmt.Println("the runtime panicked:", panicked.Value)
		}
	}()
	_, _ = p.Pull(context.Background(), puller.Request{Image: "busybox:1.36"})
	// Output: the runtime panicked: index out of range
}

// A brokenRuntime panics in Pull.
type brokenRuntime struct{}

func (brokenRuntime) Status(context.Context, puller.Spec) (puller.Image, error) {
	return puller.Image{}, fs.ErrNotExist
}

func (brokenRuntime) Pull(context.Context, puller.Spec) (puller.Image, error) {
	panic("index out of range")
}
