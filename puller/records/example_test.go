package records_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/records"
)

// open opens records in a new directory.
func open() (dir *records.Dir, remove func()) {
	path, err := os.MkdirTemp("", "records")
	if err != nil {
		panic(err)
	}
	dir, err = records.Open(path)
	if err != nil {
		panic(err)
	}
	return dir, func() {
		dir.Close()
		os.RemoveAll(path)
	}
}

func ExampleOpen() {
	path, err := os.MkdirTemp("", "records")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(path)
	store, err := records.Open(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	ctx := context.Background()
	err = store.Grant(ctx, "sha256:1", "registry.example/app", records.Access{Everybody: true})
	fmt.Println(err)
	record, err := store.Record(ctx, "sha256:1")
	fmt.Println(record.Names["registry.example/app"].Everybody, err)
	// Output:
	// <nil>
	// true <nil>
}

func ExampleDir() {
	store, remove := open()
	defer remove()
	done, err := store.Intend(context.Background(), "docker.io/library/busybox:1 linux/amd64")
	for image := range store.Intents(context.Background()) {
		fmt.Println(image, err)
	}
	fmt.Println(done())
	// Output:
	// docker.io/library/busybox:1 linux/amd64 <nil>
	// <nil>
}

func ExampleStore() {
	dir, remove := open()
	defer remove()
	var store records.Store = dir // or your own, in a database
	_, err := store.Record(context.Background(), "sha256:1")
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output: true
}

func ExampleRecord() {
	record := records.Record{
		ID: "sha256:1", Updated: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Names: map[string]records.Access{"registry.example/app": {Everybody: true}},
	}
	data, err := json.Marshal(record)
	fmt.Println(string(data), err)
	// Output: {"id":"sha256:1","updated":"2026-01-02T03:04:05Z","names":{"registry.example/app":{"everybody":true}}} <nil>
}

func ExampleAccess() {
	var a records.Access // allows no Pod
	a = a.Merge(records.Access{Secrets: []records.SecretID{{Namespace: "team", Name: "regcred", UID: "1"}}})
	a = a.Merge(records.Access{ServiceAccounts: []credentials.ServiceAccount{{Namespace: "team", Name: "builder", UID: "2"}}})
	fmt.Println(a.Everybody, len(a.Secrets), len(a.ServiceAccounts), a.Full())
	// Output: false 1 1 false
}

func ExampleSecretID() {
	data, err := json.Marshal(records.SecretID{Namespace: "team", Name: "regcred", UID: "1"})
	fmt.Println(string(data), err)
	// Output: {"namespace":"team","name":"regcred","uid":"1"} <nil>
}

func ExampleNewSecretID() {
	cred := credentials.Credential{
		Username: "robot", Password: credentials.Conceal("old"),
		Origin: credentials.Origin{Kind: credentials.KindSecret, Namespace: "team", Name: "regcred", UID: "1"},
	}
	id := records.NewSecretID(cred)
	rotated := cred
	rotated.Password = credentials.Conceal("new")
	fmt.Println(id.Matches(cred), id.Matches(rotated), id.SameObject(records.NewSecretID(rotated)))
	// Output: true false true
}

func ExampleAdmissionStore() {
	store, remove := open()
	defer remove()
	var keeps records.AdmissionStore = store
	ctx := context.Background()
	err := keeps.Admit(ctx, "sha256:1", records.Admission{Name: "registry.example/app", Digest: "sha256:1", Policy: "p1", By: "cosign => signed"})
	fmt.Println(err)
	record, err := store.Record(ctx, "sha256:1")
	fmt.Println(record.Admissions[0].By, len(record.Names), err)
	// Output:
	// <nil>
	// cosign => signed 0 <nil>
}

func ExampleAdmission() {
	kept := records.Admission{Name: "registry.example/app", Digest: "sha256:1", Policy: "p1", By: "cosign => signed"}
	fmt.Println(kept.Equal(records.Admission{Name: "registry.example/app", Digest: "sha256:1", Policy: "p1"}))
	fmt.Println(kept.Equal(records.Admission{Name: "registry.example/app", Digest: "sha256:1", Policy: "p2"}))
	// Output:
	// true
	// false
}

func ExampleLister() {
	dir, remove := open()
	defer remove()
	fmt.Println(dir.Grant(context.Background(), "sha256:1", "registry.example/app", records.Access{Everybody: true}))
	var store records.Lister = dir
	for record, err := range store.List(context.Background()) {
		fmt.Println(record.ID, err)
	}
	// Output:
	// <nil>
	// sha256:1 <nil>
}

// kubeletDir makes the directory of a kubelet. The kubelet has pulled nginx without
// credentials, and is pulling another image.
func kubeletDir() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "kubelet")
	if err != nil {
		panic(err)
	}
	if err := os.CopyFS(dir, os.DirFS("testdata/kubelet")); err != nil {
		panic(err)
	}
	return dir, func() { os.RemoveAll(dir) }
}

// The records of a node say which Pods may use an image with this ID. On a node the
// directory is /var/lib/kubelet.
func ExampleOpenKubelet() {
	dir, remove := kubeletDir()
	defer remove()
	kubelet, err := records.OpenKubelet(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kubelet.Close()
	record, err := kubelet.Record(context.Background(), "sha256:2")
	fmt.Println(record.Names["nginx"].Everybody, err)
	// Output: true <nil>
}

// The program finds the IDs of the images that were pulled under a name.
func ExampleKubelet() {
	dir, remove := kubeletDir()
	defer remove()
	kubelet, err := records.OpenKubelet(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kubelet.Close()
	for record, err := range kubelet.List(context.Background()) {
		if access, ok := record.Names["registry.example/team/app"]; ok && err == nil {
			fmt.Println(record.ID, access.Secrets[0].Namespace, access.Secrets[0].Name)
		}
	}
	// Output: sha256:1 web regcred
}

// A Puller does not write to a Reader.
func ExampleReader() {
	dir, remove := kubeletDir()
	defer remove()
	var store records.Reader
	store, err := records.OpenKubelet(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(store.Intended(context.Background(), "nginx"))
	_, err = store.Intend(context.Background(), "nginx")
	fmt.Println(errors.Is(err, records.ErrReadOnly))
	// Output:
	// true <nil>
	// true
}
