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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
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

func TestDirKeepsRecordsAndIntents(t *testing.T) {
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
	assert.Equal(t, []string{"a.example/a:1"}, intents(t, r), "the other pull is still running")

	s := SecretID{Namespace: "n", Name: "s", UID: "u", Hash: NewSecretID(secretCredential("correct horse")).Hash}
	require.NoError(t, r.Grant(ctx, "sha256:1", "a.example/a", Access{Secrets: []SecretID{s}}))
	require.NoError(t, r.Grant(ctx, "sha256:1", "a.example/b", Access{Everybody: true}))
	require.NoError(t, r.Grant(ctx, "sha256:1", "a.example/a", Access{ServiceAccounts: []credentials.ServiceAccount{{Namespace: "n", Name: "sa", UID: "x"}}}))

	// Another process reads the same records.
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
	require.NoError(t, again(), "removing a note twice is not an error")
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
	require.Len(t, files, 1, "only the record is left")
	info, err := os.Stat(files[0])
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	data, err := os.ReadFile(files[0])
	require.NoError(t, err)
	assert.NotContains(t, string(data), "correct horse")
	assert.Contains(t, string(data), `"serviceAccounts":[{"namespace":"n","name":"sa","uid":"x"}]`)
}

func TestDirIsSafeForConcurrentUse(t *testing.T) {
	r := openDir(t, t.TempDir())
	var wg sync.WaitGroup
	wg.Go(func() { // this reader always reads a whole file
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

func TestMergeKeepsAtMostAHundredSecrets(t *testing.T) {
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
	assert.Equal(t, "7", a.Secrets[7].Hash, "Merge does not change its arguments")
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
		SecretID{Hash: u1}.Matches(b) // the hash may be any text
	})
}

// An operation that hangs on the file of one image does not delay operations for other
// images. Operations that wait for that file end with their context.
func TestHangingOperationDelaysOnlyItsOwnImage(t *testing.T) {
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
	assert.ErrorIs(t, err, fs.ErrNotExist, "reading does not wait for a turn")
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
	assert.Zero(t, d.turns.Len())
}

// A Dir does not write a file that it would refuse to read.
func TestDirWritesNothingThatIsTooLargeToRead(t *testing.T) {
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
	assert.True(t, bytes.Equal(data, now), "the file does not change")
	got, err := d.Record(t.Context(), "id")
	require.NoError(t, err)
	assert.True(t, got.Names["x.example/first"].Everybody)
	_, err = d.Intend(t.Context(), strings.Repeat("a", int(d.limit)))
	assert.ErrorContains(t, err, "more than the limit")
}

// A record that replaces a record that cannot be read is Incomplete.
func TestRecordThatReplacesAnUnreadableRecordIsIncomplete(t *testing.T) {
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

// A directory that version 0.1 wrote can be read, hashes included, and can be written to.
func TestDirectoryOfVersion01IsRead(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/v0.1")))
	const id = "sha256:3f1a0e5b7c9d2a4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6"
	d := openDir(t, dir)
	assert.Equal(t, []string{"priv.example/app:v2 linux/amd64"}, intents(t, d))
	rec, err := d.Record(t.Context(), id)
	require.NoError(t, err)
	assert.Len(t, rec.Names, 2)
	assert.Equal(t, Access{Everybody: true}, rec.Names["mirror.example/app"])
	assert.Empty(t, rec.Names["mirror.example/app"].Public, "not known to be public")
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

// An error says where a record is not JSON. Its text does not depend on the version of
// encoding/json.
func TestErrorsOfUnreadableRecordsSayWhere(t *testing.T) {
	for text, want := range map[string]string{
		"nul":                              "records/x.json: bad JSON",
		`{"names":{"a":{"secrets":5}}}`:    "records/x.json: a field of a record has a value of the wrong type",
		`{"id":"a","names":{"b":{}}} more`: "records/x.json: data after the document at byte 28",
	} {
		dir := t.TempDir()
		d := openDir(t, dir)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "records", "x.json"), []byte(text), 0o600))
		assert.ErrorContains(t, d.read("records/x.json", &Record{}), want)
	}
}

// A record keeps admissions in addition to names. If a record has too many, the oldest
// admissions are removed.
func TestDirKeepsAdmissions(t *testing.T) {
	path := t.TempDir()
	dir, err := Open(path)
	require.NoError(t, err)
	ctx := t.Context()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a := Admission{Name: "reg.example/app", Digest: "sha256:1", Policy: "p", Namespace: "web", By: "first", Time: at}
	require.NoError(t, dir.Admit(ctx, "id", a))
	require.NoError(t, dir.Grant(ctx, "id", "reg.example/app", Access{Everybody: true}))
	b := a
	b.By, b.Time = "second", at.Add(time.Hour)
	other := a
	other.Namespace = "db"
	require.NoError(t, dir.Admit(ctx, "id", other))
	require.NoError(t, dir.Admit(ctx, "id", b))
	require.NoError(t, dir.Close())

	dir, err = Open(path)
	require.NoError(t, err)
	defer dir.Close()
	rec, err := dir.Record(ctx, "id")
	require.NoError(t, err)
	assert.Equal(t, []Admission{other, b}, rec.Admissions)
	assert.Equal(t, map[string]Access{"reg.example/app": {Everybody: true}}, rec.Names)

	for i := range 100 {
		n := a
		n.Policy = strconv.Itoa(i)
		require.NoError(t, dir.Admit(ctx, "id", n))
	}
	rec, err = dir.Record(ctx, "id")
	require.NoError(t, err)
	assert.Len(t, rec.Admissions, 100)
	assert.Equal(t, "0", rec.Admissions[0].Policy)
	assert.Len(t, rec.Names, 1)

	names, err := filepath.Glob(filepath.Join(path, "records", "*.json"))
	require.NoError(t, err)
	require.Len(t, names, 1)
	require.NoError(t, os.WriteFile(names[0], []byte("{"), 0o600))
	assert.Error(t, dir.Admit(ctx, "id", a), "a record that cannot be read is not replaced")
	data, err := os.ReadFile(names[0])
	require.NoError(t, err)
	assert.Equal(t, "{", string(data))
}

// A digest that was public stays public. Each digest is in the record once, and their
// number has a limit.
func TestPublicDigestsAddUp(t *testing.T) {
	d := openDir(t, t.TempDir())
	name := func(i int) digest.Digest { return digest.FromString(fmt.Sprint(i)) }
	for _, a := range []Access{
		{Everybody: true, Public: []digest.Digest{name(0), name(1)}},
		{Secrets: []SecretID{{UID: "1"}}}, // a later pull with a Secret
		{Everybody: true, Public: []digest.Digest{name(1), name(2), name(2)}},
	} {
		require.NoError(t, d.Grant(t.Context(), "id", "x.example/a", a))
	}
	rec, err := d.Record(t.Context(), "id")
	require.NoError(t, err)
	assert.Equal(t, []digest.Digest{name(0), name(1), name(2)}, rec.Names["x.example/a"].Public)

	many := make([]digest.Digest, 3*maxPublic)
	for i := range many {
		many[i] = name(i)
	}
	require.NoError(t, d.Grant(t.Context(), "id", "x.example/b", Access{Public: many}))
	rec, err = d.Record(t.Context(), "id")
	require.NoError(t, err)
	assert.Equal(t, many[:maxPublic], rec.Names["x.example/b"].Public)
}

// List yields an error for a record that cannot be read and for a file with the record of
// another image, and goes on.
func TestListYieldsAllRecordsAndGoesOnAfterAnError(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, d.Grant(t.Context(), id, "x.example/app", Access{Everybody: true}))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, recordFile("b")), []byte(`{"id":"a"}`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, recordsDir, tempPrefix+"x"), []byte("{"), 0o600))
	var ids []string
	var errs []error
	for rec, err := range d.List(t.Context()) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ids = append(ids, rec.ID)
	}
	assert.ElementsMatch(t, []string{"a", "c"}, ids)
	require.Len(t, errs, 1)
	assert.ErrorContains(t, errs[0], `is the record of "a"`)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range d.List(ctx) {
		assert.ErrorIs(t, err, context.Canceled)
	}
}
