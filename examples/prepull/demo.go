package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/pullkit/pullkit/puller/pullertest"
)

// demo starts a registry and pre-pulls from it: six images, one name that is not valid,
// and one image that the registry does not have.
func demo(ctx context.Context, parallel int, out, log io.Writer) error {
	reg, err := pullertest.Start(pullertest.Config{})
	if err != nil {
		return err
	}
	defer reg.Close()
	var images []string
	for i := range 6 {
		name := fmt.Sprintf("team/service-%d:v1", i+1)
		if _, err := reg.PutImage(name, pullertest.ImageSpec{Layers: []int64{int64(i+1) << 18}, Seed: uint64(i)}); err != nil {
			return err
		}
		images = append(images, reg.Host()+"/"+name)
	}
	images = append(images, reg.Host()+"/Team/app:v1", reg.Host()+"/team/absent:v1")
	dir, err := os.MkdirTemp("", "prepull-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(out, "Six images that the registry has, and two that cannot be pulled, so the exit status is 1:")
	return prepull(ctx, dir, parallel, images, out, log)
}
