package puller

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"testing"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The files of a records.Dir, as its documentation names them.
const (
	intentsDir = "intents"
	recordsDir = "records"
	tempPrefix = ".tmp-"
)

func recordFile(id string) string {
	return path.Join(recordsDir, fmt.Sprintf("%x.json", sha256.Sum256([]byte(id))))
}

func openRecords(t *testing.T) *records.Dir {
	t.Helper()
	return openRecordsIn(t, t.TempDir())
}

func openRecordsIn(t *testing.T, dir string) *records.Dir {
	t.Helper()
	r, err := records.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func intents(t *testing.T, r records.Store) []string {
	t.Helper()
	var out []string
	for image, err := range r.Intents(t.Context()) {
		require.NoError(t, err)
		out = append(out, image)
	}
	return out
}

// A record that cannot be read grants no access. The next pull replaces it.
func TestUnreadableRecordsGrantNoAccess(t *testing.T) {
	for name, damage := range map[string]string{
		"torn": `{"id":"sha256:1","names":{"a.exam`, "empty": "", "of another image": `{"id":"sha256:2"}`,
	} {
		dir := t.TempDir()
		r := openRecordsIn(t, dir)
		require.NoError(t, r.Grant(t.Context(), "sha256:1", "priv.example/app", records.Access{Everybody: true}))
		require.NoError(t, os.WriteFile(filepath.Join(dir, recordFile("sha256:1")), []byte(damage), 0o600))
		_, err := r.Record(t.Context(), "sha256:1")
		require.Error(t, err, name)
		assert.NotErrorIs(t, err, fs.ErrNotExist, name)

		w := newWorld(t, Config{Records: r})
		w.runtime.store["priv.example/app:1"] = "sha256:1"
		w.runtime.pull = func(context.Context, Spec) (string, error) { return "sha256:1", nil }
		_, err = w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: keyringOf(secret("a", "1"))})
		require.NoError(t, err, name)
		assert.Equal(t, []string{"inspect priv.example/app:1", "pull priv.example/app:1 with a"}, w.runtime.took(), name)
		_, err = w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: keyringOf(secret("a", "1"))})
		require.NoError(t, err, name)
		assert.Equal(t, []string{"inspect priv.example/app:1"}, w.runtime.took(), name)
	}
}

func TestANoteStaysIfTheRecordCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	r := openRecordsIn(t, dir)
	w := newWorld(t, Config{Records: r})
	require.NoError(t, os.RemoveAll(filepath.Join(dir, recordsDir)))
	_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1"})
	assert.NoError(t, err, "the image is there")
	assert.Contains(t, w.reasons(), EventRecord)
	assert.Len(t, intents(t, r), 1, "the note stays")
	assert.Error(t, w.Sweep(t.Context(), time.Now(), func(string) bool { return true }))

	require.NoError(t, os.RemoveAll(filepath.Join(dir, intentsDir)))
	_, err = w.Pull(t.Context(), Request{Image: "a.example/b:1"})
	assert.ErrorContains(t, err, "ErrImagePull: the records cannot note that the pull starts: records: ")
	assert.NotContains(t, err.Error(), dir, "the path of the records is left out")
	w.runtime.took()
	_, err = w.Pull(t.Context(), Request{Image: "a.example/a:1", Policy: "Never"})
	assert.ErrorIs(t, err, ErrImageNeverPull, "without notes it is not known how the image came")

	_, err = records.Open(filepath.Join(dir, recordFile("x"), "below"))
	assert.NoError(t, err)
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = records.Open(file)
	assert.ErrorContains(t, err, "records: ")
}

func TestAnUnreadableNoteCountsForEveryImage(t *testing.T) {
	dir := t.TempDir()
	r := openRecordsIn(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, intentsDir, "x.json"), []byte("{"), 0o600))
	w := newWorld(t, Config{Records: r})
	w.runtime.store["priv.example/app:1"] = "sha256:1"
	_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1"})
	require.NoError(t, err)
	assert.Contains(t, w.runtime.took(), "pull priv.example/app:1 with anonymous", "the note might be for this image")
}

func TestSweepRemovesTheRecordsOfRemovedImages(t *testing.T) {
	dir := t.TempDir()
	r := openRecordsIn(t, dir)
	ctx := t.Context()
	w := newWorld(t, Config{Records: r, Platform: platform("linux", "amd64")})
	for _, id := range []string{"sha256:kept", "sha256:gone", "sha256:new"} {
		require.NoError(t, r.Grant(ctx, id, "a.example/a", records.Access{Everybody: true}))
	}
	// A process died while it pulled a.example/crash, which is in the store.
	_, err := r.Intend(ctx, "a.example/crash:1 linux/amd64")
	require.NoError(t, err)
	w.runtime.store["a.example/crash:1"] = "sha256:crash"
	require.NoError(t, os.WriteFile(filepath.Join(dir, recordsDir, tempPrefix+"1"), nil, 0o600))

	before := time.Now()
	age := func(pattern string, by time.Duration) {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		require.NoError(t, err)
		for _, f := range files {
			require.NoError(t, os.Chtimes(f, before.Add(-by), before.Add(-by)))
		}
	}
	age("*/*", 2*time.Hour)
	age("*/"+tempPrefix+"*", 2*time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(dir, recordFile("sha256:new")), before.Add(time.Second), before.Add(time.Second)))
	stored := func(id string) bool { return id == "sha256:kept" || id == "sha256:crash" }
	unreadable := filepath.Join(dir, recordFile("sha256:unreadable"))
	require.NoError(t, os.WriteFile(unreadable, []byte("{"), 0o600))
	require.NoError(t, os.Chtimes(unreadable, before.Add(-time.Hour), before.Add(-time.Hour)))
	require.NoError(t, w.Sweep(ctx, before, stored))
	assert.FileExists(t, unreadable, "a record that cannot be read is kept")

	for id, want := range map[string]bool{"sha256:kept": true, "sha256:gone": false, "sha256:new": true, "sha256:crash": true} {
		_, err := r.Record(ctx, id)
		assert.Equal(t, want, err == nil, "%s: %v", id, err)
	}
	assert.Len(t, intents(t, r), 1, "the note stays, because a pull may take hours")
	temps, err := filepath.Glob(filepath.Join(dir, "*", tempPrefix+"*"))
	require.NoError(t, err)
	assert.Empty(t, temps)

	age("intents/*", 25*time.Hour)
	require.NoError(t, w.Sweep(ctx, before, stored))
	assert.Empty(t, intents(t, r))
	rec, err := r.Record(ctx, "sha256:crash")
	require.NoError(t, err)
	assert.Equal(t, map[string]records.Access{"a.example/crash": {}}, rec.Names, "no Pod may use what the crash left")
	require.NoError(t, newWorld(t, Config{}).Sweep(ctx, before, stored), "without Records, Sweep does nothing")
}

// If any operation on the records fails, no Pod gets an image without proof.
func TestFaultyRecordsGrantNoAccess(t *testing.T) {
	t.Run("the note cannot be written", func(t *testing.T) {
		w := newWorld(t, Config{Records: &scriptedRecords{intend: errors.New("disk full")}})
		_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1"})
		assert.EqualError(t, err, `image "a.example/a:1": ErrImagePull: the records cannot note that the pull starts: disk full`)
		assert.Equal(t, []string{"inspect a.example/a:1"}, w.runtime.took(), "nothing is pulled")
	})
	t.Run("the record cannot be written", func(t *testing.T) {
		recs := &scriptedRecords{grant: errors.New("disk full")}
		w := newWorld(t, Config{Records: recs})
		_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1"})
		assert.NoError(t, err, "the image is there")
		assert.Zero(t, recs.ended, "the note stays")
		assert.Equal(t, []EventReason{EventPulling, EventRecord, EventPulled}, w.reasons())
	})
	t.Run("a failed pull", func(t *testing.T) {
		recs := &scriptedRecords{}
		w := newWorld(t, Config{Records: recs, Platform: platform("linux", "amd64")})
		w.runtime.pull = answers(map[string]string{"anonymous": "401"})
		_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1"})
		assert.Error(t, err)
		assert.Equal(t, []string{"a.example/a:1 linux/amd64"}, recs.begun)
		assert.Equal(t, 1, recs.ended)
		assert.Empty(t, recs.grants)
	})
	t.Run("the note of another process's pull", func(t *testing.T) {
		w := newWorld(t, Config{
			Records: &scriptedRecords{intents: []string{"a.example/a:1 linux/amd64"}}, Platform: platform("linux", "amd64"),
		})
		w.runtime.store["a.example/a:1"] = "sha256:1"
		w.runtime.pull = answers(map[string]string{"anonymous": "401"})
		_, err := w.Pull(t.Context(), Request{Image: "a.example/a:1"})
		assert.ErrorIs(t, err, ErrImagePull)
	})
}

// A pull that ends writes its record, and then takes back its note. Another Pod may look
// for the record before the first step, and for the note after the second step. Even then
// the image does not count as preloaded.
func TestAnImageWhosePullIsEndingIsNotPreloaded(t *testing.T) {
	recs := &scriptedRecords{late: &records.Record{Names: map[string]records.Access{"priv.example/app": {Secrets: []records.SecretID{{Namespace: "a", Name: "a", UID: "a"}}}}}}
	w := newWorld(t, Config{Records: recs})
	w.runtime.store["priv.example/app:1"] = "sha256:1"
	_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Policy: "Never"})
	assert.ErrorIs(t, err, ErrImageNeverPull)
	assert.Equal(t, 2, recs.asked)
}

// While private images are pulled with a secret, requests without the secret fail at each
// moment: before, during and after the pull.
func TestNoPodGetsAPrivateImageWithoutTheSecret(t *testing.T) {
	w := newWorld(t, Config{Records: openRecords(t), Parallel: -1})
	w.runtime.pull = func(_ context.Context, spec Spec) (string, error) {
		if spec.Credential.Anonymous() {
			return "", textError("401")
		}
		return "sha256:" + spec.Ref.Repository(), nil
	}
	for req := range images(rounds.Of(40)) {
		done := make(chan struct{})
		mine := req
		mine.Keyring = keyringOf(secret("a", "1"))
		go func() {
			defer close(done)
			_, err := w.Pull(t.Context(), mine)
			assert.NoError(t, err)
		}()
		for over := false; !over; {
			select {
			case <-done:
				over = true // the loop's body runs once more, with the record written
			default:
			}
			for _, policy := range []pullpolicy.Policy{pullpolicy.Never, pullpolicy.IfNotPresent} {
				req.Policy = policy
				_, err := w.Pull(t.Context(), req)
				require.Error(t, err, "%s under %s", req.Image, policy)
			}
		}
	}
}

// After a crash in the pull of one tag, another tag of the same image does not count as
// preloaded.
func TestAfterACrashEveryTagOfTheImageNeedsProof(t *testing.T) {
	r := openRecords(t)
	_, err := r.Intend(t.Context(), "priv.example/app:1 linux/arm64")
	require.NoError(t, err)
	w := newWorld(t, Config{Records: r, Platform: platform("linux", "amd64")})
	w.runtime.store["priv.example/app:1"] = "sha256:1"
	w.runtime.store["priv.example/app:2"] = "sha256:1"
	w.runtime.store["priv.example/preloaded:1"] = "sha256:2"
	w.runtime.pull = answers(map[string]string{"anonymous": "401"})
	for image, want := range map[string]bool{"priv.example/app:1": false, "priv.example/app:2": false, "priv.example/preloaded:1": true} {
		_, err := w.Pull(t.Context(), Request{Image: image})
		assert.Equal(t, want, err == nil, "%s: %v", image, err)
	}
}

func TestTheRecordNamesTheCredentialThatOpenedTheImage(t *testing.T) {
	account := credentials.ServiceAccount{Namespace: "team", Name: "builder", UID: "sa"}
	plugin := node("p")
	plugin.Origin.Kind, plugin.Origin.ServiceAccount = credentials.KindPlugin, account
	static := credentials.Credential{Username: "u", Origin: credentials.Origin{Kind: credentials.KindStatic, Key: "s"}}
	tests := []struct {
		name string
		pod  *fakeKeyring
		node *fakeKeyring
		want records.Access
	}{
		{"anonymous", nil, nil, records.Access{Everybody: true}},
		{"the Pod's empty credential", keyringOf(credentials.Credential{}), nil, records.Access{Everybody: true}},
		{"the node's", nil, keyringOf(node("n")), records.Access{Everybody: true}},
		{"the node's for a service account", nil, keyringOf(plugin), records.Access{ServiceAccounts: []credentials.ServiceAccount{account}}},
		{"a secret", keyringOf(secret("a", "1")), keyringOf(node("n")), records.Access{Secrets: []records.SecretID{{Namespace: "team", Name: "secret-a", UID: "uid-a"}}}},
		{"the Pod's for its service account", keyringOf(plugin), nil, records.Access{ServiceAccounts: []credentials.ServiceAccount{account}}},
		{"a static credential of the Pod's", keyringOf(static), nil, records.Access{Secrets: []records.SecretID{{}}}},
	}
	for _, tt := range tests {
		recs := &scriptedRecords{}
		config := Config{Records: recs}
		req := Request{Image: "priv.example/app:1"}
		if tt.node != nil {
			config.Keyring = tt.node
		}
		if tt.pod != nil {
			req.Keyring = tt.pod
		}
		_, err := newWorld(t, config).Pull(t.Context(), req)
		require.NoError(t, err, tt.name)
		require.Len(t, recs.grants, 1, tt.name)
		got := recs.grants[0]
		for i := range got.Secrets {
			assert.NotEmpty(t, got.Secrets[i].Hash, tt.name)
			got.Secrets[i].Hash = ""
		}
		assert.Equal(t, tt.want, got, tt.name)
	}
}

// A service account without a UID could be another account of the same name.
func TestServiceAccountsAreKnownByUID(t *testing.T) {
	for uid, want := range map[string]bool{"": false, "1": true, "2": false} {
		recs := &scriptedRecords{record: &records.Record{Names: map[string]records.Access{"priv.example/app": {
			ServiceAccounts: []credentials.ServiceAccount{{Namespace: "n", Name: "sa"}, {Namespace: "n", Name: "sa", UID: "1"}},
		}}}}
		w := newWorld(t, Config{Records: recs})
		w.runtime.store["priv.example/app:1"] = "sha256:1"
		w.runtime.pull = answers(map[string]string{"anonymous": "401"})
		_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Pod: credentials.Pod{ServiceAccount: credentials.ServiceAccount{Namespace: "n", Name: "sa", UID: uid}}})
		assert.Equal(t, want, err == nil, "UID %q: %v", uid, err)
	}
}

// Plugins in a request's keyring are asked for the request's Pod. Access to an image that
// a plugin's token opened is recorded for the service account. So the account's other Pods
// and later tokens may use the image too.
func TestPluginsOfARequestAreAskedForItsPod(t *testing.T) {
	account := credentials.ServiceAccount{Name: "builder", UID: "sa"}
	ring := podKeyring{func(pod credentials.Pod) credentials.Keyring {
		c := node("token of " + pod.Name)
		c.Origin = credentials.Origin{Kind: credentials.KindPlugin, Name: "ecr", Key: pod.Name, ServiceAccount: accountOf(pod)}
		return keyringOf(c)
	}}
	w := newWorld(t, Config{Records: openRecords(t)})
	pull := func(pod credentials.Pod) ([]string, error) {
		_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Pod: pod, Keyring: ring})
		return w.runtime.took(), err
	}
	asked, err := pull(credentials.Pod{Namespace: "team", Name: "one", UID: "1", ServiceAccount: account})
	require.NoError(t, err)
	assert.Equal(t, []string{"inspect priv.example/app:1", "pull priv.example/app:1 with one"}, asked)
	asked, err = pull(credentials.Pod{Namespace: "team", Name: "two", UID: "2", ServiceAccount: account})
	require.NoError(t, err)
	assert.Equal(t, []string{"inspect priv.example/app:1"}, asked, "the service account may use it")
	asked, err = pull(credentials.Pod{Namespace: "other", Name: "three", UID: "3", ServiceAccount: account})
	require.NoError(t, err)
	assert.Equal(t, []string{"inspect priv.example/app:1", "pull priv.example/app:1 with three"}, asked, "for another service account the registry is asked")

	d, err := w.Explain(t.Context(), Request{Image: "priv.example/app:2", Pod: credentials.Pod{Namespace: "team", Name: "four", ServiceAccount: account}, Keyring: ring})
	require.NoError(t, err)
	require.Len(t, d.Candidates, 1)
	assert.Equal(t, `plugin "ecr", key "four", service account "team/builder"`, d.Candidates[0].From)
}

// A keyring that depends on the Pod gives two service accounts different secrets. The
// secret of the second account is tried although the first account's secret has failed.
func TestTheSecretOfAnotherServiceAccountIsTriedWithinTheWindow(t *testing.T) {
	ring := podKeyring{func(pod credentials.Pod) credentials.Keyring {
		return keyringOf(secret(pod.ServiceAccount.Name, pod.ServiceAccount.Name))
	}}
	w := newWorld(t, Config{})
	w.runtime.pull = answers(map[string]string{"a": "401"})
	pull := func(account string) error {
		_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: ring,
			Pod: credentials.Pod{UID: "1", ServiceAccount: credentials.ServiceAccount{Name: account}}})
		return err
	}
	assert.ErrorIs(t, pull("a"), ErrImagePull)
	assert.ErrorIs(t, pull("a"), ErrImagePullBackOff)
	assert.NoError(t, pull("b"), "another account's secret")
}

// To find out whether a Pod may use a present image, no plugin of the node runs.
func TestNoPluginRunsForAPresentImage(t *testing.T) {
	runs := 0
	recs := &scriptedRecords{record: &records.Record{Names: map[string]records.Access{"priv.example/app": {Secrets: []records.SecretID{{UID: "x"}}}}}}
	w := newWorld(t, Config{Records: recs, Keyring: &countingPlugin{runs: &runs}})
	w.runtime.store["priv.example/app:1"] = "sha256:1"
	_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Policy: "Never", Keyring: keyringOf(secret("a", "1"))})
	assert.ErrorIs(t, err, ErrImageNeverPull)
	assert.Zero(t, runs)
}

func TestTheRecordLearnsCopiesAndNewContentOfASecret(t *testing.T) {
	r := openRecords(t)
	w := newWorld(t, Config{Records: r})
	w.runtime.pull = func(context.Context, Spec) (string, error) { return "sha256:1", nil }
	pull := func(s credentials.Credential) {
		t.Helper()
		_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: keyringOf(s)})
		require.NoError(t, err)
	}
	names := func() (out []string) {
		rec, err := r.Record(t.Context(), "sha256:1")
		require.NoError(t, err)
		for _, s := range rec.Names["priv.example/app"].Secrets {
			out = append(out, s.Name)
		}
		return out
	}
	pull(secret("a", "1"))
	pull(secret("copy", "1")) // grants access, and is added to the record
	assert.Equal(t, []string{"secret-a", "secret-copy"}, names())
	pull(secret("a", "2")) // the same Secret with new content: its hash is renewed
	pull(secret("new", "2"))
	assert.Equal(t, []string{"secret-a", "secret-copy", "secret-new"}, names())
	calls := w.runtime.took()
	assert.Len(t, calls, 5, "one pull: %q", calls)
	before, err := r.Record(t.Context(), "sha256:1")
	require.NoError(t, err)
	pull(secret("a", "2"))
	after, err := r.Record(t.Context(), "sha256:1")
	require.NoError(t, err)
	assert.Equal(t, before, after, "a Secret that the record knows writes nothing")
}
