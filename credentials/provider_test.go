package credentials

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testProvider returns a plugin whose program is the test's own binary.
func testProvider(mode string, env ...string) pluginConfig {
	return pluginConfig{
		Name: "test-plugin", APIVersion: providerGroup + "v1", MatchImages: []string{"*.io"},
		DefaultCacheDuration: time.Minute, Env: pluginEnv(mode, env...),
	}
}

func testProviders(t testing.TB, c ProviderConfig, p pluginConfig) *providers {
	if c.Exec.Dir == "" {
		c.Exec.Dir = installProgram(t, p.Name)
	}
	ps, err := newProviders(c, p)
	require.NoError(t, err)
	return ps
}

// collect returns all that a look-up yields.
func collect(ctx context.Context, ring Keyring, image string) (creds []Credential, errs []error) {
	for c, err := range ring.Lookup(ctx, reference.MustParse(image)) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		creds = append(creds, c)
	}
	return creds, errs
}

func TestPluginAnswersAreUsedAndKept(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	ps := testProviders(t, ProviderConfig{}, testProvider("registry", programSecret, "hunter2", programLog, log))

	creds, errs := collect(t.Context(), ps, "r.io/team/app:v1")
	require.Empty(t, errs)
	require.Len(t, creds, 1)
	assert.Equal(t, "run", creds[0].Username)
	assert.Equal(t, "hunter2", creds[0].Password.Reveal())
	assert.Equal(t, Origin{Kind: KindPlugin, Name: "test-plugin", Key: "r.io"}, creds[0].Origin)
	assert.WithinDuration(t, time.Now().Add(time.Hour), creds[0].Expires, 5*time.Minute)

	creds, errs = collect(t.Context(), ps, "r.io/another") // of the same registry, so that the answer is in the cache
	assert.Empty(t, errs)
	assert.Len(t, creds, 1)
	creds, errs = collect(t.Context(), ps, "r.example/app") // matchImages does not match it
	assert.Empty(t, errs)
	assert.Empty(t, creds)
	require.Len(t, runs(t, log), 1)
	assert.JSONEq(t, `{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"r.io/team/app"}`, runs(t, log)[0])
}

// TestAPluginRunsOnlyAfterEarlierCandidatesFailed holds that a plugin is run only after all earlier candidates failed.
func TestAPluginRunsOnlyAfterEarlierCandidatesFailed(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	ps := testProviders(t, ProviderConfig{}, testProvider("registry", programSecret, "new", programLog, log))
	ring := Join(configOf(t, "r.io"), ps)
	try := func(want string) func(context.Context, Credential) (string, error) {
		return func(_ context.Context, c Credential) (string, error) {
			if c.Password.Reveal() == want {
				return want, nil
			}
			return "", assert.AnError
		}
	}
	ref := reference.MustParse("r.io/app")
	_, err := Each(t.Context(), ring, ref, try("hunter2"))
	require.NoError(t, err)
	for range ring.(Explainer).Explain(ref) {
	}
	ring.(Fingerprinter).Fingerprint(ref)
	assert.Empty(t, runs(t, log))
	_, err = Each(t.Context(), ring, ref, try("new"))
	require.NoError(t, err)
	assert.Len(t, runs(t, log), 1)
}

// TestOnePluginRunAnswersAllCallers holds that all callers at the same time get the answer
// of one process, even if one of them leaves.
func TestOnePluginRunAnswersAllCallers(t *testing.T) {
	log, gate := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "gate")
	mkfifo(t, gate)
	ps := testProviders(t, ProviderConfig{}, testProvider("registry", programSecret, "hunter2", programLog, log, programGate, gate))

	impatient, leave := context.WithCancel(t.Context())
	var first, others sync.WaitGroup
	first.Go(func() {
		_, errs := collect(impatient, ps, "r.io/first")
		if assert.Len(t, errs, 1) {
			assert.ErrorIs(t, errs[0], context.Canceled)
		}
	})
	release, err := os.OpenFile(gate, os.O_WRONLY, 0) // blocks until the process has opened the gate
	require.NoError(t, err)
	for i := range 50 {
		others.Go(func() {
			image := "r.io/first"
			if i%2 == 1 {
				image = "r.io/image" + string(rune('a'+i%26))
			}
			creds, errs := collect(t.Context(), ps, image)
			assert.Empty(t, errs)
			assert.Len(t, creds, 1)
		})
	}
	p := ps.list[0]
	require.Eventually(t, func() bool {
		return p.runs.Waiting(p.cache.scope(question{image: "r.io/first"})) == 51
	}, time.Minute, time.Millisecond)
	leave()
	first.Wait()
	require.NoError(t, release.Close())
	others.Wait()
	assert.Len(t, runs(t, log), 1)
}

// TestPluginIsKilledWhenItsLastCallerLeaves holds that the context of a plugin's run ends
// when the last caller that waits for it leaves.
func TestPluginIsKilledWhenItsLastCallerLeaves(t *testing.T) {
	ended := make(chan error, 1)
	p, err := newProvider(ProviderConfig{}, testProvider(""))
	require.NoError(t, err)
	started := make(chan struct{})
	p.run = func(ctx context.Context, _ []byte, _ []string) ([]byte, error) {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-started; leave() }()
	_, errs := collect(ctx, &providers{list: []*provider{p}}, "r.io/app")
	assert.Len(t, errs, 1)
	assert.ErrorIs(t, <-ended, context.Canceled)
}

// TestPanicReachesAllCallersThatWait holds that a panic while a plugin runs, such as one of
// the Logger, reaches each caller that waits for the plugin, and that the next call starts
// a new run.
func TestPanicReachesAllCallersThatWait(t *testing.T) {
	p, err := newProvider(ProviderConfig{}, testProvider(""))
	require.NoError(t, err)
	ps := &providers{list: []*provider{p}}
	boom, fault := errors.New("a callback panicked"), errors.New("the plugin failed")
	const callers = 3
	p.run = func(context.Context, []byte, []string) ([]byte, error) {
		for p.runs.Waiting(p.cache.scope(question{image: "r.io/app"})) < callers {
			runtime.Gosched()
		}
		panic(boom)
	}
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			defer func() {
				err, _ := recover().(error)
				assert.ErrorIs(t, err, boom)
			}()
			_, errs := collect(t.Context(), ps, "r.io/app")
			assert.Fail(t, "returned", "%v", errs)
		})
	}
	all.Wait()
	p.run = func(context.Context, []byte, []string) ([]byte, error) { return nil, fault }
	_, errs := collect(t.Context(), ps, "r.io/app")
	require.Len(t, errs, 1)
	assert.ErrorIs(t, errs[0], fault)
}

// TestPluginReceivesItsEnvironment holds what a plugin receives. The image is only on its
// standard input.
func TestPluginReceivesItsEnvironment(t *testing.T) {
	t.Setenv("PULLKIT_TEST_INHERITED", "yes")
	report := func(c ProviderConfig, p pluginConfig) (got struct {
		Args  []string
		Env   []string
		Stdin string
	},
	) {
		creds, errs := collect(t.Context(), testProviders(t, c, p), "r.io/app")
		require.Empty(t, errs)
		require.Len(t, creds, 1)
		require.NoError(t, json.Unmarshal([]byte(creds[0].Password.Reveal()), &got))
		return got
	}
	p := testProvider("report", "PULLKIT_TEST_INHERITED", "overridden", "SHELL_TEXT", "$(id); `id`")
	p.Args = []string{"--flag", "$HOME; id"}
	got := report(ProviderConfig{}, p)
	assert.Equal(t, p.Args, got.Args)
	assert.Contains(t, got.Env, "PULLKIT_TEST_INHERITED=overridden")
	assert.NotContains(t, got.Env, "PULLKIT_TEST_INHERITED=yes")
	assert.Contains(t, got.Env, "SHELL_TEXT=$(id); `id`")
	assert.Contains(t, got.Stdin, `"image":"r.io/app"`)
	assert.NotContains(t, strings.Join(append(got.Args, got.Env...), "\n"), "r.io/app")

	t.Setenv("PULLKIT_TEST_OF_THE_PROCESS", "yes")
	assert.Contains(t, report(ProviderConfig{}, p).Env, "PULLKIT_TEST_OF_THE_PROCESS=yes")
	assert.NotContains(t, report(ProviderConfig{Exec: Exec{Environ: map[string]Sensitive{}}}, p).Env, "PULLKIT_TEST_OF_THE_PROCESS=yes")
}

// programTests are the rows of the hostile inputs that need a program.
var programTests = map[string]func(*testing.T){
	"stdout-huge": func(t *testing.T) {
		_, errs := collect(t.Context(), testProviders(t, ProviderConfig{}, testProvider("huge")), "r.io/app")
		require.Len(t, errs, 1)
		assert.ErrorIs(t, errs[0], errProgramOutput)
	},
	"hang": func(t *testing.T) {
		_, errs := collect(t.Context(), testProviders(t, ProviderConfig{Exec: Exec{Timeout: 200 * time.Millisecond}}, testProvider("hang")), "r.io/app")
		require.Len(t, errs, 1)
		assert.ErrorIs(t, errs[0], ErrProgramTimeout)
	},
	"stderr-secret": func(t *testing.T) {
		_, errs := collect(t.Context(), testProviders(t, ProviderConfig{}, testProvider("fail", programSecret, "hunter2")), "r.io/app")
		require.Len(t, errs, 1)
		assert.ErrorIs(t, errs[0], ErrProgramFailed)
		assert.ErrorContains(t, errs[0], "cannot log in with")
		assert.NotContains(t, errs[0].Error(), "hunter2")
		assert.NotContains(t, errs[0].Error(), "\x1b")
	},
	"cache-negative": func(t *testing.T) {
		asked := 0
		ps := answering(t, ProviderConfig{}, func() string { asked++; return `"cacheKeyType":"Global","cacheDuration":"-1s"` })
		collect(t.Context(), ps, "r.io/app")
		collect(t.Context(), ps, "r.io/app")
		assert.Equal(t, 2, asked)
	},
	"auth-other-host": func(t *testing.T) {
		ps := answering(t, ProviderConfig{}, func() string {
			return `"cacheKeyType":"Global","auth":{"q.io":{"username":"u","password":"p"}}`
		})
		creds, errs := collect(t.Context(), ps, "r.io/app")
		assert.Empty(t, creds)
		assert.Empty(t, errs)
		creds, _ = collect(t.Context(), ps, "q.io/app")
		assert.Len(t, creds, 1)
	},
	"env-image": func(t *testing.T) { // any name is JSON on the standard input
		p, err := newProvider(ProviderConfig{}, testProvider(""))
		require.NoError(t, err)
		p.run = func(_ context.Context, stdin []byte, _ []string) ([]byte, error) {
			var r request
			assert.NoError(t, json.Unmarshal(stdin, &r))
			assert.Equal(t, "r.io/$(id)\n;id", r.Image)
			return nil, assert.AnError
		}
		_, err = p.lookup(t.Context(), "r.io/$(id)\n;id", Pod{})
		assert.ErrorIs(t, err, assert.AnError)
	},
	"cache-global": func(t *testing.T) {
		asked := 0
		ps := answering(t, ProviderConfig{}, func() string {
			asked++
			return `"cacheKeyType":"Global","auth":{"r.io":{"username":"u","password":"p"}}`
		})
		creds, _ := collect(t.Context(), ps, "r.io/app")
		assert.Len(t, creds, 1)
		creds, _ = collect(t.Context(), ps, "q.io/app")
		assert.Empty(t, creds)
		assert.Equal(t, 1, asked)
	},
	"clock-back": func(t *testing.T) {
		// The time of an answer's end has a monotonic reading, which does not change if
		// the clock of the system is set back. The code must not remove the reading.
		assert.Contains(t, endOf(time.Minute).String(), "m=", "the monotonic reading is kept")
	},
}

// answering returns a plugin that answers without a process.
func answering(t *testing.T, c ProviderConfig, body func() string) *providers {
	p, err := newProvider(c, testProvider(""))
	require.NoError(t, err)
	p.run = func(context.Context, []byte, []string) ([]byte, error) {
		return []byte(`{"kind":"CredentialProviderResponse","apiVersion":"` + p.APIVersion + `",` + body() + `}`), nil
	}
	return &providers{list: []*provider{p}}
}

// TestChildOfAPluginDoesNotDelayTheAnswer holds that a child process that a plugin leaves
// behind does not hide or delay the plugin's answer.
func TestChildOfAPluginDoesNotDelayTheAnswer(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	_, errs := collect(t.Context(), testProviders(t, ProviderConfig{}, testProvider("daemon", programSecret, pid)), "r.io/app")
	assert.Empty(t, errs)
	data, err := os.ReadFile(pid)
	require.NoError(t, err)
	var child int
	require.NoError(t, json.Unmarshal(data, &child))
	end(t, child) // the child was not killed
}

func TestPluginErrorsAreNotKept(t *testing.T) {
	asked := 0
	ps := answering(t, ProviderConfig{}, func() string {
		if asked++; asked == 1 {
			return `"cacheKeyType":"Image","nonsense":"hunter2"`
		}
		return `"cacheKeyType":"Image","auth":{"r.io":{"username":"u","password":"p"},"r.io:x":{"username":"v","password":"p"}}`
	})
	_, errs := collect(t.Context(), ps, "r.io/app")
	require.Len(t, errs, 1)
	assert.ErrorIs(t, errs[0], errProgramAnswer)
	assert.NotContains(t, errs[0].Error(), "hunter2")
	creds, errs := collect(t.Context(), ps, "r.io/app")
	assert.Len(t, creds, 1)
	require.Len(t, errs, 1, "the entry that was left out")
	var entry *Error
	assert.ErrorAs(t, errs[0], &entry)
}

func TestMissingPluginIsAnError(t *testing.T) {
	_, err := newProviders(ProviderConfig{Exec: Exec{Dir: t.TempDir()}}, testProvider(""))
	assert.ErrorIs(t, err, errProgramMissing)
}
