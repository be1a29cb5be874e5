// Command kube is every program of a cluster's in one, linked once: the one that it is
// called as, or that its first argument names. test/lab/kube.sh builds it, in a module
// of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata" // a CronJob's time zone

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	if run(filepath.Base(os.Args[0])) {
		return
	}
	if len(os.Args) > 1 {
		os.Args = os.Args[1:]
		if run(os.Args[0]) {
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: kube etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubelet|kubectl [ARGUMENT...]")
	os.Exit(2)
}

// run runs a program with os.Args, and says whether there is one of that name. Only the
// one that runs is made: each registers its flags and its features with the process.
func run(name string) bool {
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		end(apiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		end(controllers.NewControllerManagerCommand())
	case "kube-scheduler":
		end(scheduler.NewSchedulerCommand())
	case "kubelet":
		end(kubelet.NewKubeletCommand(context.Background()))
	case "kubectl":
		kubectlutil.CheckErr(cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()))
	default:
		return false
	}
	return true
}

func end(command *cobra.Command) { os.Exit(cli.Run(command)) }
