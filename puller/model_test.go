package puller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/require"
)

// A model is a second, plain implementation of the rules, without the verification of
// present images.
type model struct {
	kubelet bool
	now     time.Duration
	store   map[string]bool // canonical names
	failed  map[string]*modelFailure
}

type modelFailure struct {
	delay     time.Duration
	last      time.Duration
	notBefore time.Duration // the registry asked to wait until then; later failures keep it
	tried     []string
}

// canonical has the canonical name of each spelling that the test uses.
var canonical = map[string]string{
	"nginx:1": "docker.io/library/nginx:1", "docker.io/library/nginx:1": "docker.io/library/nginx:1",
	"a.example/a": "a.example/a:latest", "a.example/a:latest": "a.example/a:latest",
}

// ensure returns the reason with which a pull ends, and the credentials that it tries.
func (m *model) ensure(pod, image, policy string, creds []string, answer map[string]string) (reason string, tried []string) {
	if policy == "" {
		policy = "IfNotPresent"
		if strings.HasSuffix(canonical[image], ":latest") {
			policy = "Always"
		}
		if m.kubelet {
			policy = "Always"
		}
	}
	name := canonical[image]
	if m.kubelet {
		name = strings.TrimSuffix(image, ":latest") // under kubelet the fake store keeps names as written
		if canonical[image] == image || image == "nginx:1" {
			name = image
		}
		if image == "a.example/a" {
			name = "a.example/a:latest"
		}
	}
	if policy != "Always" {
		if m.store[name] {
			return "", nil
		}
		if policy == "Never" {
			return "ErrImageNeverPull", nil
		}
	}
	key := pod + "_" + canonical[image]
	if m.kubelet {
		key = pod + "_" + image
	}
	f := m.failed[key]
	if f != nil && m.now-max(f.last, f.notBefore) > 600*time.Second {
		f = nil
	}
	secrets := strings.Join(creds, ",")
	if f != nil && m.now < max(f.last+f.delay, f.notBefore) && (m.kubelet || slices.Contains(f.tried, secrets) || len(f.tried) >= maxRepairs) {
		return "ImagePullBackOff", nil
	}
	if len(creds) == 0 {
		creds = []string{"anonymous"}
	}
	reason, wait := "ErrImagePull", time.Duration(0)
	var texts []string
	for _, c := range creds {
		tried = append(tried, c)
		text := answer[c]
		texts = append(texts, text)
		if text == "ok" {
			m.store[name] = true
			if !m.kubelet {
				delete(m.failed, key)
			}
			return "", tried
		}
		if text == "429" && !m.kubelet {
			wait = time.Minute
			break
		}
	}
	if m.kubelet {
		if texts[0] == "RegistryUnavailable" && len(slices.Compact(slices.Clone(texts))) == 1 {
			reason = "RegistryUnavailable"
		}
	} else if slices.Contains(texts, "RegistryUnavailable") {
		reason = "RegistryUnavailable"
	}
	if f == nil {
		f = &modelFailure{delay: 10 * time.Second}
		m.failed[key] = f
	} else {
		f.delay = min(2*f.delay, 300*time.Second)
	}
	f.last = m.now
	if wait > 0 {
		f.notBefore = max(f.notBefore, m.now+wait)
	}
	if !slices.Contains(f.tried, secrets) {
		f.tried = append(f.tried, secrets)
	}
	return reason, tried
}

// A Puller and the model get the same random requests at random times, and must decide in
// the same way.
func TestAPullerDecidesAsAPlainModelOfTheRules(t *testing.T) {
	for _, kubelet := range []bool{false, true} {
		for seed := range uint64(rounds.Of(60)) {
			t.Run(fmt.Sprintf("kubelet=%v/%d", kubelet, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { runModel(t, kubelet, seed) })
			})
		}
	}
}

func runModel(t *testing.T, kubelet bool, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	config := Config{}
	if kubelet {
		config.Kubelet = allKubelet()
	}
	runtime := &canonicalRuntime{fakeRuntime{store: map[string]string{}}, kubelet}
	config.Runtime = runtime
	w := newWorld(t, config)
	m := &model{kubelet: kubelet, store: map[string]bool{}, failed: map[string]*modelFailure{}}
	begin := time.Now()
	for i := range 80 {
		time.Sleep(time.Duration(rnd.IntN(40)) * time.Second)
		if rnd.IntN(15) == 0 {
			time.Sleep(601 * time.Second)
		}
		m.now = time.Since(begin)
		pod, image, policy := pick("1", "2"), pick("nginx:1", "docker.io/library/nginx:1", "a.example/a", "a.example/a:latest"), pick("", "Always", "IfNotPresent", "Never")
		if rnd.IntN(4) == 0 { // all images are removed
			clear(runtime.store)
			clear(m.store)
		}
		var ids []string
		ring := &fakeKeyring{}
		for _, id := range []string{"x", "y", "z"}[:rnd.IntN(4)] {
			ids = append(ids, id)
			ring.creds = append(ring.creds, secret(id, id))
		}
		answer := map[string]string{}
		for _, id := range []string{"anonymous", "x", "y", "z"} {
			answer[id] = pick("ok", "401", "401", "RegistryUnavailable", "429")
		}
		runtime.pull = func(_ context.Context, spec Spec) (string, error) {
			switch text := answer[credentialID(spec.Credential)]; text {
			case "ok":
				return "sha256:1", nil
			case "429":
				return "", &RetryError{After: time.Minute, Err: errors.New(text)}
			default:
				return "", textError(text)
			}
		}
		wantReason, wantTried := m.ensure(pod, image, policy, ids, answer)
		_, err := w.Pull(t.Context(), Request{Image: image, Policy: pullpolicy.Policy(policy), Pod: credentials.Pod{UID: pod}, Keyring: ring})
		var tried []string
		for _, call := range runtime.took() {
			if _, who, ok := strings.Cut(call, " with "); ok {
				tried = append(tried, who)
			}
		}
		step := fmt.Sprintf("step %d at %v: %s for %s, %q, with %v of %v", i, m.now, image, pod, policy, ids, answer)
		require.Equal(t, wantReason, reasonOf(t, err), step)
		require.Equal(t, wantTried, tried, step)
	}
}

// A canonicalRuntime finds an image under all spellings of its name, as a real Runtime
// does. With asWritten it finds an image only under the spelling with which it was pulled.
type canonicalRuntime struct {
	fakeRuntime
	asWritten bool
}

func (r *canonicalRuntime) name(spec Spec) Spec {
	if !r.asWritten {
		spec.Written = spec.Ref.String()
	}
	return spec
}

func (r *canonicalRuntime) Status(ctx context.Context, spec Spec) (Image, error) {
	return r.fakeRuntime.Status(ctx, r.name(spec))
}

func (r *canonicalRuntime) Pull(ctx context.Context, spec Spec) (Image, error) {
	return r.fakeRuntime.Pull(ctx, r.name(spec))
}
