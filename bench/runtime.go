package main

import (
	"context"
	"errors"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// pods is how many a node has, by the kubelet's default limit.
const pods = 110

// bigList is the id that asks the runtime for a list of the kubelet's limit.
const bigList = "16MiB"

// serveRuntime is the server: the fake runtime of a node full of pods, whose ListContainers answers a filter for the id bigList
// with a list of 16 MiB. That list is made once, so that the calls cost what lists cost and not what it takes to invent one; by
// itself and beside the path that it will serve, which is there when all is ready.
func serveRuntime(ctx context.Context, listen, _ string) error {
	rt := fakecri.NewRuntime()
	rt.AddPods(pods)
	if err := rt.Start(listen + ".new"); err != nil {
		return err
	}
	defer rt.Stop()
	k, err := fakecri.NewKubelet(listen + ".new")
	if err != nil {
		return err
	}
	small, err := k.Runtime.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return err
	}
	method := cri.RuntimeService_ListContainers_FullMethodName
	rt.On(method, fakecri.Grow(longest))
	big, err := k.Runtime.ListContainers(ctx, &cri.ListContainersRequest{})
	if err != nil {
		return err
	}
	rt.On(method, fakecri.Reply(func(req any) (any, error) {
		if req.(*cri.ListContainersRequest).GetFilter().GetId() == bigList {
			return big, nil
		}
		return small, nil
	}))
	if err := errors.Join(k.Close(), rt.Start(listen)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
