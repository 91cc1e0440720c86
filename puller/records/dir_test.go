package records

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func openDir(t *testing.T, dir string) *Dir {
	t.Helper()
	d, err := Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func secretCredential(password string) credentials.Credential {
	return credentials.Credential{
		Username: "user", Password: credentials.Conceal(password),
		Origin: credentials.Origin{Kind: credentials.KindSecret, Namespace: "n", Name: "s", UID: "u"},
	}
}

func intents(t *testing.T, r Store) []string {
	t.Helper()
	var out []string
	for image, err := range r.Intents(t.Context()) {
		require.NoError(t, err)
		out = append(out, image)
	}
	return out
}

func TestDir(t *testing.T) {
	dir := t.TempDir()
	r := openDir(t, dir)
	ctx := t.Context()
	_, err := r.Record(ctx, "sha256:1")
	assert.ErrorIs(t, err, fs.ErrNotExist)

	done, err := r.Intend(ctx, "a.example/a:1")
	require.NoError(t, err)
	again, err := r.Intend(ctx, "a.example/a:1")
	require.NoError(t, err)
	require.NoError(t, done())
	assert.Equal(t, []string{"a.example/a:1"}, intents(t, r), "the other pull goes on")

	s := SecretID{Namespace: "n", Name: "s", UID: "u", Hash: NewSecretID(secretCredential("correct horse")).Hash}
	require.NoError(t, r.Grant(ctx, "sha256:1", "a.example/a", Access{Secrets: []SecretID{s}}))
	require.NoError(t, r.Grant(ctx, "sha256:1", "a.example/b", Access{Everybody: true}))
	require.NoError(t, r.Grant(ctx, "sha256:1", "a.example/a", Access{ServiceAccounts: []credentials.ServiceAccount{{Namespace: "n", Name: "sa", UID: "x"}}}))

	// Another process reads what this one wrote.
	other := openDir(t, dir)
	rec, err := other.Record(ctx, "sha256:1")
	require.NoError(t, err)
	assert.Equal(t, map[string]Access{
		"a.example/a": {Secrets: []SecretID{s}, ServiceAccounts: []credentials.ServiceAccount{{Namespace: "n", Name: "sa", UID: "x"}}},
		"a.example/b": {Everybody: true},
	}, rec.Names)
	assert.WithinDuration(t, time.Now(), rec.Updated, time.Minute)
	assert.Equal(t, []string{"a.example/a:1"}, intents(t, other))
	require.NoError(t, again())
	require.NoError(t, again(), "taking back twice is no error")
	assert.Empty(t, intents(t, other))

	for _, path := range []string{".", "records", "intents"} {
		info, err := os.Stat(filepath.Join(dir, path))
		require.NoError(t, err)
		if path != "." {
			assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm(), path)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	require.NoError(t, err)
	require.Len(t, files, 1, "nothing is left over")
	info, err := os.Stat(files[0])
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	data, err := os.ReadFile(files[0])
	require.NoError(t, err)
	assert.NotContains(t, string(data), "correct horse")
	assert.Contains(t, string(data), `"serviceAccounts":[{"namespace":"n","name":"sa","uid":"x"}]`)
}

func TestDirConcurrently(t *testing.T) {
	r := openDir(t, t.TempDir())
	var wg sync.WaitGroup
	wg.Go(func() { // whoever reads meanwhile reads all of one state
		for range rounds.Of(500) {
			_, err := r.Record(t.Context(), "sha256:1")
			assert.True(t, err == nil || errors.Is(err, fs.ErrNotExist), "%v", err)
			for _, err := range r.Intents(t.Context()) {
				assert.NoError(t, err)
			}
		}
	})
	for i := range 20 {
		wg.Go(func() {
			done, err := r.Intend(t.Context(), "a.example/a:1")
			assert.NoError(t, err)
			assert.NoError(t, r.Grant(t.Context(), "sha256:1", fmt.Sprintf("a.example/%d", i), Access{Everybody: true}))
			assert.NoError(t, done())
		})
	}
	wg.Wait()
	rec, err := r.Record(t.Context(), "sha256:1")
	require.NoError(t, err)
	assert.Len(t, rec.Names, 20)
	assert.Empty(t, intents(t, r))
}

func TestAccessIsBounded(t *testing.T) {
	var a Access
	for i := range 300 {
		id := fmt.Sprint(i)
		a = a.Merge(Access{
			Secrets:         []SecretID{{Namespace: "n", Name: id, UID: id, Hash: id}},
			ServiceAccounts: []credentials.ServiceAccount{{Namespace: "n", Name: id, UID: id}},
		})
	}
	assert.Len(t, a.Secrets, maxAccess)
	assert.Len(t, a.ServiceAccounts, maxAccess)
	b := a.Merge(Access{Secrets: []SecretID{{Namespace: "n", Name: "7", UID: "7", Hash: "new"}}})
	assert.Equal(t, "new", b.Secrets[7].Hash)
	assert.Equal(t, "7", a.Secrets[7].Hash, "Merge changes neither")
}

func FuzzHashCredential(f *testing.F) {
	f.Add("user", "password", "", "", "user", "password", "", "")
	f.Add("ab", "c", "", "", "a", "bc", "", "")
	f.Add("", "", "", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, u1, p1, i1, r1, u2, p2, i2, r2 string) {
		a := credentials.Credential{Username: u1, Password: credentials.Conceal(p1), IdentityToken: credentials.Conceal(i1), RegistryToken: credentials.Conceal(r1)}
		b := credentials.Credential{Username: u2, Password: credentials.Conceal(p2), IdentityToken: credentials.Conceal(i2), RegistryToken: credentials.Conceal(r2)}
		hash := NewSecretID(a).Hash
		assert.Equal(t, a.Same(b) && !a.Anonymous(), SecretID{Hash: hash}.Matches(b))
		assert.Equal(t, a.Anonymous(), hash == "")
		if hash != "" {
			assert.NotEqual(t, hash, NewSecretID(a).Hash, "salted")
		}
		assert.False(t, SecretID{Hash: ""}.Matches(b))
		SecretID{Hash: u1}.Matches(b) // any text at all
	})
}

// TestRecordsAreReadUnderNoLock holds that an operation on one image's file that hangs
// holds up no other image's, and that those who wait for its turn leave with their
// context.
func TestRecordsAreReadUnderNoLock(t *testing.T) {
	d, err := Open(t.TempDir())
	require.NoError(t, err)
	defer d.Close()
	hang, hanging := make(chan struct{}), make(chan struct{})
	ended := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := work(ctx, d, recordFile("a"), func() (int, error) {
			close(hanging)
			<-hang
			return 0, nil
		})
		ended <- err
	}()
	<-hanging
	assert.NoError(t, d.Grant(t.Context(), "b", "x.example/app", Access{Everybody: true}))
	_, err = d.Record(t.Context(), "a")
	assert.ErrorIs(t, err, fs.ErrNotExist, "reading waits for no turn")
	done, err := d.Intend(t.Context(), "x.example/app:v1 linux/amd64")
	require.NoError(t, err)
	assert.NoError(t, done())
	short, end := context.WithTimeout(t.Context(), time.Millisecond)
	defer end()
	assert.ErrorIs(t, d.Grant(short, "a", "x.example/app", Access{}), context.DeadlineExceeded)
	cancel()
	assert.ErrorIs(t, <-ended, context.Canceled)
	close(hang)
	assert.NoError(t, d.Grant(t.Context(), "a", "x.example/app", Access{Everybody: true}))
	assert.Empty(t, d.turns.names)
}

// TestRecordsHaveOneLimit holds that no file is written that would not be read.
func TestRecordsHaveOneLimit(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir)
	require.NoError(t, err)
	defer d.Close()
	assert.EqualValues(t, 8<<20, d.limit, "as the documentation says")
	d.limit = 10_000
	require.NoError(t, d.Grant(t.Context(), "id", "x.example/first", Access{Everybody: true}))
	file := filepath.Join(dir, recordFile("id"))
	var rec Record
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &rec))
	rec.Names["x.example/"+strings.Repeat("a", int(d.limit)-len(data)-100)] = Access{}
	data, err = json.Marshal(rec)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, data, 0o600))

	err = d.Grant(t.Context(), "id", "x.example/"+strings.Repeat("b", 200), Access{Everybody: true})
	assert.ErrorContains(t, err, "more than the limit of 10000")
	now, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(data, now), "the file stays as it is")
	got, err := d.Record(t.Context(), "id")
	require.NoError(t, err)
	assert.True(t, got.Names["x.example/first"].Everybody)
	_, err = d.Intend(t.Context(), strings.Repeat("a", int(d.limit)))
	assert.ErrorContains(t, err, "more than the limit")
}

// TestUnreadableRecordIsMarked holds that a record written over one that cannot be read
// says that names may be missing.
func TestUnreadableRecordIsMarked(t *testing.T) {
	for _, bad := range []string{"", "{", `{"id":"another"}`, "null", strings.Repeat(" ", 10_001)} {
		dir := t.TempDir()
		d, err := Open(dir)
		require.NoError(t, err)
		d.limit = 10_000
		require.NoError(t, os.WriteFile(filepath.Join(dir, recordFile("id")), []byte(bad), 0o600))
		require.NoError(t, d.Grant(t.Context(), "id", "x.example/a", Access{Everybody: true}))
		require.NoError(t, d.Grant(t.Context(), "id", "x.example/b", Access{Everybody: true}))
		rec, err := d.Record(t.Context(), "id")
		require.NoError(t, err)
		assert.True(t, rec.Incomplete, "%.20q", bad)
		assert.Len(t, rec.Names, 2)
		require.NoError(t, d.Close())
	}
}

// TestFirstFormatIsRead: a directory that version 0.1 wrote is read, hashes included, and
// can be written to.
func TestFirstFormatIsRead(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/v0.1")))
	const id = "sha256:3f1a0e5b7c9d2a4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6"
	d := openDir(t, dir)
	assert.Equal(t, []string{"priv.example/app:v2 linux/amd64"}, intents(t, d))
	rec, err := d.Record(t.Context(), id)
	require.NoError(t, err)
	assert.Len(t, rec.Names, 2)
	assert.Equal(t, Access{Everybody: true}, rec.Names["mirror.example/app"])
	access := rec.Names["priv.example/app"]
	assert.Equal(t, []credentials.ServiceAccount{{Namespace: "team", Name: "builder", UID: "8"}}, access.ServiceAccounts)
	require.Len(t, access.Secrets, 1)
	cred := credentials.Credential{
		Username: "robot", Password: credentials.Conceal("correct horse"),
		Origin: credentials.Origin{Kind: credentials.KindSecret, Namespace: "team", Name: "regcred", UID: "7"},
	}
	assert.True(t, access.Secrets[0].Matches(cred))
	assert.True(t, access.Secrets[0].SameObject(NewSecretID(cred)))
	cred.Password = credentials.Conceal("another")
	assert.False(t, access.Secrets[0].Matches(cred))
	require.NoError(t, d.Grant(t.Context(), id, "priv.example/app", Access{Secrets: []SecretID{NewSecretID(cred)}}))
	rec, err = d.Record(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, rec.Names["priv.example/app"].Secrets, 1, "the same Secret")
	assert.True(t, rec.Names["priv.example/app"].Secrets[0].Matches(cred))
}

// TestTextsOfUnreadableRecords holds that an error says where a record is not JSON, in words
// that do not depend on the version of encoding/json.
func TestTextsOfUnreadableRecords(t *testing.T) {
	for text, want := range map[string]string{
		"nul":                              "records/x.json: bad JSON",
		`{"names":{"a":{"secrets":5}}}`:    "records/x.json: a field has a value of another type than a record has",
		`{"id":"a","names":{"b":{}}} more`: "records/x.json: data after the document at byte 28",
	} {
		dir := t.TempDir()
		d := openDir(t, dir)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "records", "x.json"), []byte(text), 0o600))
		assert.ErrorContains(t, d.read("records/x.json", &Record{}), want)
	}
}
