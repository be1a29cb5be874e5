package phase

import "testing"

func TestPlaybook(t *testing.T) {
	for name, text := range map[string]string{
		"a start of all steps, with retries": `
			0    +30  NodeStageVolume   web v1 INTERNAL  | start
			30.5 +0.5 NodeStageVolume   web v1           | start
			31   +1   NodePublishVolume web v1           | start
			31.5 +0   NodeGetVolumeStats web v1          | own>start
			32   +1   RunPodSandbox     web s1           | start
			33   +12  PullImage         web nginx        | start
			45   +1   CreateContainer   web app@c1       | start
			45.9 +0   ContainerStatus   web app@c1       | own>start
			46   +1   StartContainer    web app@c1       | start
			tick 66.9 | pod start shop/web failing NodeStageVolume x1
			tick 67   | pod start shop/web started 0-47 7 calls 1 failed
			tick 9999 |
			70   +0   ExecSync          web app@c1       | own>start
			71   +0   NodePublishVolume web v1           | own>start
			72   +0   Version           -   -            | own`,
		"init containers and several containers": `
			0  +1 RunPodSandbox   web s1       | start
			1  +1 PullImage       web busybox  | start
			2  +1 CreateContainer web init@c1  | start
			3  +1 StartContainer  web init@c1  | start
			5  +1 PullImage       web nginx    | start
			6  +1 CreateContainer web app@c2   | start
			7  +1 StartContainer  web app@c2   | start
			8  +1 CreateContainer web log@c3   | start
			9  +1 StartContainer  web log@c3   | start
			tick 30 | pod start shop/web started 0-10 9 calls`,
		"an init container takes its time: its pod's start was told": `
			0  +1 RunPodSandbox   web s1       | start
			2  +1 CreateContainer web init@c1  | start
			3  +1 StartContainer  web init@c1  | start
			tick 30 | pod start shop/web started 0-4 3 calls
			60 +1 PullImage       web nginx    | start
			61 +1 CreateContainer web app@c2   | start
			62 +1 StartContainer  web app@c2   | start
			63 +1 PullImage       web nginx    | own>start
			tick 99 |
			1000 +1 CreateContainer web debug@c4 | own>start`,
		"only a driver is tapped: how the start went on is not known": `
			0  +1 NodePublishVolume web v1 INTERNAL | start
			2  +1 NodePublishVolume web v1     | start
			tick 23 | pod start shop/web unfinished 0-3 2 calls 1 failed; pod start shop/web failing NodePublishVolume x1`,
		"the runtime is tapped too, and the pod's other volume has its time": `
			0  +1 NodePublishVolume web v1     | start
			20 +0 Version           -   -      | own
			tick 23 |
			90 +1 NodePublishVolume web v2     | start
			92 +1 RunPodSandbox     web s1     | start
			93 +1 CreateContainer   web app@c1 | start
			94 +1 StartContainer    web app@c1 | start
			tick 120 | pod start shop/web started 0-95 5 calls`,
		"a start that only a driver was heard of goes on in the same trace": `
			0  +1 NodePublishVolume web v1     | start
			tick 23 | pod start shop/web unfinished 0-1 1 calls
			30 +1 RunPodSandbox     web s1     | start
			31 +1 CreateContainer   web app@c1 | start`,
		"a pull that runs holds the start open": `
			0  +1 RunPodSandbox   web s1       | start
			2  +1 CreateContainer web init@c1  | start
			3  +1 StartContainer  web init@c1  | start
			begin 5 PullImage web nginx
			tick 23 |
			tick 42 |
			5  +38 PullImage      web nginx    | start
			44 +1 CreateContainer web app@c2   | start
			45 +1 StartContainer  web app@c2   | start
			tick 66 | pod start shop/web started 0-46 6 calls`,
		"one container runs, the other's image is not to be had": `
			0  +1 RunPodSandbox   web s1       | start
			2  +1 CreateContainer web app@c1   | start
			3  +1 StartContainer  web app@c1   | start
			4  +1 PullImage       web log UNKNOWN | start
			tick 60  | pod start shop/web failing PullImage x1
			60 +1 PullImage       web log UNKNOWN | start
			tick 65  | pod start shop/web failing PullImage x2
			tick 900 | pod start shop/web capped 0-900 5 calls 2 failed`,
		"several volumes, and a shared one": `
			0  +1 NodeStageVolume   web v1     | start
			0  +2 NodePublishVolume web v2     | start
			2  +1 NodePublishVolume web v1     | start
			3  +1 NodePublishVolume db  v1     | start
			5  +1 CreateContainer web app@c1   | start
			5  +1 CreateContainer db  app@c2   | start
			6  +1 StartContainer  web app@c1   | start
			6  +1 StartContainer  db  app@c2   | start
			tick 27 | pod start shop/web started 0-7 5 calls; pod start shop/db started 3-7 3 calls
			40 +1 StopContainer   web app@c1   | stop
			41 +1 StopPodSandbox  web s1       | stop
			42 +1 NodeUnpublishVolume web v1   | stop
			tick 70 |
			71 +1 NodeUnpublishVolume web v2   | stop
			80 +1 StopPodSandbox  db s2        | stop
			81 +1 NodeUnpublishVolume db v1    | stop
			82 +1 NodeUnstageVolume - v1       | stop
			tick 102 | pod stop shop/web stopped 40-72 4 calls
			tick 103 | pod stop shop/db stopped 80-83 3 calls`,
		"a stop": `
			0  +1 RunPodSandbox    web s1      | start
			2  +1 CreateContainer  web app@c1  | start
			3  +1 StartContainer   web app@c1  | start
			4  +0 StopPodSandbox   web s1      | stop
			tick 5 | pod start shop/web started 0-4 3 calls
			6  +0 RemoveContainer  web app@c1  | stop
			tick 26 | pod stop shop/web stopped 4-6 2 calls
			60 +0 StopPodSandbox   web s1      | stop
			60 +0 RemovePodSandbox web s1      | stop
			tick 990 |
			991 +0 RemovePodSandbox web s1     | own>start`,
		"a stop that fails": `
			0  +1 RunPodSandbox    web s1      | start
			2  +1 StartContainer   web app@c1  | start
			3  +30 StopContainer   web app@c1 DEADLINE_EXCEEDED | stop
			33 +1 StopPodSandbox   web s1 UNKNOWN | stop
			tick 60 | pod start shop/web started 0-3 2 calls; pod stop shop/web failing StopContainer x1
			70 +1 StopPodSandbox   web s1      | stop
			tick 91 | pod stop shop/web stopped 3-71 3 calls 2 failed`,
		"a static pod comes back with its UID": `
			0  +1 RunPodSandbox    etcd s1     | start
			2  +1 StartContainer   etcd app@c1 | start
			3  +1 StopContainer    etcd app@c1 | stop
			4  +1 StopPodSandbox   etcd s1     | stop
			6  +1 RunPodSandbox    etcd s2 UNKNOWN | start.1
			7  +1 RunPodSandbox    etcd s2     | start.1
			8  +1 RemoveContainer  etcd app@c1 | own>start.1
			8  +1 StopPodSandbox   etcd s1     | own>start.1
			8  +1 RemovePodSandbox etcd s1     | own>start.1
			9  +1 CreateContainer  etcd app@c2 | start.1
			10 +1 StartContainer   etcd app@c2 | start.1
			tick 31 | pod start shop/etcd started 0-3 2 calls; pod stop shop/etcd stopped 3-5 2 calls; pod start shop/etcd started 6-11 4 calls 1 failed; pod start shop/etcd failing RunPodSandbox x1
			40 +1 StopPodSandbox   etcd s2     | stop.1
			41 +1 RunPodSandbox    etcd s3     | start.2`,
		"a pull that ends after its pod does not bring it back": `
			0  +1 RunPodSandbox    web s1      | start
			2  +1 StartContainer   web app@c1  | start
			5  +1 StopPodSandbox   web s1      | stop
			2  +5 PullImage        web nginx   | start
			7  +1 PullImage        web other   | start
			tick 60 | pod start shop/web started 0-3 2 calls; pod stop shop/web stopped 5-6 1 calls`,
		"two attempts of a sandbox": `
			0  +4 RunPodSandbox    web - UNKNOWN | start
			5  +1 RunPodSandbox    web s1      | start
			6  +1 CreateContainer  web app@c1 UNKNOWN | start
			7  +1 StopPodSandbox   web s1      | start
			8  +1 RunPodSandbox    web s2      | start
			9  +1 RemovePodSandbox web s1      | start
			10 +1 CreateContainer  web app@c2  | start
			11 +1 StartContainer   web app@c2  | start
			tick 32 | pod start shop/web started 0-12 8 calls 2 failed; pod start shop/web failing RunPodSandbox x1`,
		"its sandbox dies unseen": `
			0  +1 RunPodSandbox    web s1      | start
			1  +1 StartContainer   web app@c1  | start
			50 +1 RunPodSandbox    web s2      | start.1
			tick 51 | pod start shop/web started 0-2 2 calls`,
		"it gives up: its volume is taken away": `
			0  +1 NodePublishVolume web v1 INTERNAL | start
			9  +1 NodePublishVolume web v1 INTERNAL | start
			30 +1 NodeUnpublishVolume web v1   | stop
			31 +1 NodeUnstageVolume web v1     | stop
			tick 49 | pod start shop/web failing NodePublishVolume x1
			tick 50 | pod start shop/web gave up 0-30 2 calls 2 failed
			tick 60 | pod stop shop/web stopped 30-32 2 calls
			99 +1 NodePublishVolume web v1     | start.1`,
		"it gives up: two sockets, whose calls are placed in no order": `
			0  +1 NodePublishVolume web v1     | start
			1  +1 RunPodSandbox    web s1      | start
			2  +1 PullImage        web nginx UNKNOWN | start
			30 +1 NodeUnpublishVolume web v1   | stop
			29 +1 StopPodSandbox   web s1      | stop
			31 +1 RemovePodSandbox web s1      | stop
			tick 60 | pod start shop/web gave up 0-30 3 calls 1 failed; pod stop shop/web stopped 29-32 3 calls; pod start shop/web failing PullImage x1`,
		"its volume's socket is ahead of the runtime's": `
			0  +1 NodePublishVolume web v1     | start
			5  +1 NodeUnpublishVolume web v1   | stop
			1  +1 RunPodSandbox    web s1      | start
			2  +1 CreateContainer  web app@c1  | start
			tick 8 |
			3  +1 StartContainer   web app@c1  | start
			3  +1 CreateContainer  web log@c2  | start
			4  +1 StartContainer   web log@c2  | start
			4  +0.5 StopContainer  web app@c1  | stop
			tick 9 |
			5  +0 StopPodSandbox   web s1      | stop
			tick 60 | pod start shop/web started 0-5 6 calls; pod stop shop/web stopped 4-6 3 calls
			99 +1 RunPodSandbox    web s2      | start.1`,
		"another tap while it is not sure that it gave up": `
			0  +1 NodePublishVolume web v1     | start
			30 +1 NodeUnpublishVolume web v1   | stop
			restart
			tick 49 |
			tick 50 | pod start shop/web gave up 0-30 0 calls
			tick 80 | pod stop shop/web stopped 30-49 0 calls`,
		"it gives up: its sandbox is removed": `
			0  +1 RunPodSandbox    web s1      | start
			1  +1 CreateContainer  web app@c1 UNKNOWN | start
			30 +1 StopPodSandbox   web s1      | start
			31 +1 RemovePodSandbox web s1      | stop
			tick 32 | pod start shop/web gave up 0-31 3 calls 1 failed; pod start shop/web failing CreateContainer x1
			tick 60 | pod stop shop/web stopped 31-32 1 calls`,
		"it gives up: nothing more is heard": `
			0  +1 RunPodSandbox    web s1      | start
			30 +1 StopPodSandbox   web s1      | start
			tick 50 |
			tick 51 | pod start shop/web gave up 0-31 2 calls
			60 +1 StopPodSandbox   web s1      | stop`,
		"it never starts": `
			0   +1 RunPodSandbox   web - UNKNOWN | start
			tick 1   | pod start shop/web failing RunPodSandbox x1
			50  +1 RunPodSandbox   web - UNKNOWN | start
			tick 60  |
			tick 61  | pod start shop/web failing RunPodSandbox x2
			100 +1 RunPodSandbox   web - UNKNOWN | start
			tick 120 |
			tick 121 | pod start shop/web failing RunPodSandbox x3
			tick 900 | pod start shop/web capped 0-900 3 calls 3 failed
			905 +1 RunPodSandbox   web - UNKNOWN | own>start
			tick 999 |`,
		"a container that crashes": `
			0  +1 RunPodSandbox    web s1      | start
			1  +1 CreateContainer  web app@c1  | start
			2  +1 StartContainer   web app@c1  | start
			5  +1 CreateContainer  web app@c2  | own>start
			6  +1 StartContainer   web app@c2  | own>start
			7  +1 RemoveContainer  web app@c1  | own>start
			tick 24 | pod start shop/web started 0-3 3 calls
			90 +1 CreateContainer  web app@c3  | own>start`,
		"one that would not start is part of the start": `
			0  +1 RunPodSandbox    web s1      | start
			1  +1 CreateContainer  web app@c1  | start
			2  +1 StartContainer   web app@c1 UNKNOWN | start
			3  +1 RemoveContainer  web app@c1  | start
			4  +1 CreateContainer  web app@c2  | start
			5  +1 StartContainer   web app@c2  | start
			tick 26 | pod start shop/web started 0-6 6 calls 1 failed; pod start shop/web failing StartContainer x1`,
		"one that is killed and made anew, and then the stop": `
			0  +1 RunPodSandbox    web s1      | start
			1  +1 CreateContainer  web app@c1  | start
			2  +1 StartContainer   web app@c1  | start
			tick 30 | pod start shop/web started 0-3 3 calls
			40 +9 StopContainer    web app@c1  | stop
			tick 90 |
			95 +1 CreateContainer  web app@c2  | stop
			96 +1 StartContainer   web app@c2  | stop
			tick 117 | container restart shop/web restarted 40-97 3 calls
			200 +1 StopContainer   web app@c2  | stop.0.1
			201 +1 StopPodSandbox  web s1      | stop.0.1
			tick 222 | pod stop shop/web stopped 200-202 2 calls`,
		"one that is killed and not made anew": `
			0  +1 RunPodSandbox    web s1      | start
			2  +1 StartContainer   web app@c1  | start
			40 +9 StopContainer    web app@c1  | stop
			tick 90 | pod start shop/web started 0-3 2 calls
			tick 940 | container restart shop/web capped 40-940 1 calls`,
		"another tap in the middle of a start": `
			0  +1 NodePublishVolume web v1     | start
			1  +1 RunPodSandbox    web s1      | start
			restart
			5  +1 CreateContainer  web app@c1 nameless | start
			6  +1 StartContainer   web app@c1  | start
			restart
			tick 10 |
			restart
			tick 40 |
			tick 60 | pod start shop/web started 0-7 0 calls
			restart
			70 +0 ExecSync         web app@c1  | own>start
			70 +1 CreateContainer  web app@c2  | own>start
			tick 99 |`,
		"another tap in the middle of a start, and then a container crashes": `
			0  +1 RunPodSandbox    web s1      | start
			2  +1 CreateContainer  web app@c1  | start
			3  +1 StartContainer   web app@c1  | start
			restart
			4  +1 CreateContainer  web log@c2  | start
			ran web s1 app
			ran web s1 log
			ran web s0 side exited
			5  +1 StartContainer   web log@c2  | start
			7  +1 StartContainer   web side@c4 | start
			tick 40 | pod start shop/web started 0-8 3 calls
			60 +1 CreateContainer  web app@c3  | own>start
			61 +1 StartContainer   web app@c3  | own>start`,
		"another tap in the middle of a stop": `
			0  +1 RunPodSandbox    web s1      | start
			2  +1 StartContainer   web app@c1  | start
			tick 30 | pod start shop/web started 0-3 2 calls
			40 +1 StopContainer    web app@c1  | stop
			restart
			41 +1 StopPodSandbox   web s1      | stop
			restart
			42 +1 NodeUnpublishVolume web v1   | stop
			tick 63 | pod stop shop/web stopped 40-43 1 calls
			restart
			70 +1 StopPodSandbox   web s1      | own>start
			71 +1 RemovePodSandbox web s1      | own>start
			80 +1 RunPodSandbox    web s2      | start.1
			restart
			81 +1 StartContainer   web app@c2  | start.1`,
		"another tap, after a while": `
			0  +1 RunPodSandbox    web s1      | start
			restart
			tick 5000 | pod start shop/web capped 0-900 0 calls
			5001 +1 RunPodSandbox  web s1      | own>start`,
		"a pod that was there before": `
			0  +1 ExecSync         web app@c1  | own
			ran web s1 app
			1  +1 CreateContainer  web app@c2  | own
			2  +1 StartContainer   web app@c2  | own
			3  +1 ExecSync         web app@c2  | own
			4  +1 StopContainer    web app@c2  | stop
			5  +1 StopPodSandbox   web s1      | stop
			tick 26 | pod stop shop/web stopped 4-6 2 calls
			30 +1 RunPodSandbox    web s2      | start.1
			ran web s2 app
			31 +1 CreateContainer  web app@c3  | start.1`,
		"one that was there before, and its earlier sandbox": `
			ran web s0 app exited
			ran web s1 app
			ran web s0 log exited
			4  +1 StopContainer    web app@c1  | stop
			5  +1 StopPodSandbox   web s1      | stop
			tick 26 | pod stop shop/web stopped 4-6 2 calls
			30 +1 RunPodSandbox    web s2      | start.1`,
		"one that was there before, when its earlier sandbox is tidied away": `
			ran web s0 app exited
			ran web s1 app
			1  +1 RemovePodSandbox web s0      | own
			2  +1 NodePublishVolume web v1     | own`,
		"one whose containers crash was there before": `
			ran web s1 app exited
			1  +1 RemovePodSandbox web s0      | own
			2  +1 CreateContainer  web app@c1  | own
			5  +1 StopPodSandbox   web s1      | stop
			tick 26 | pod stop shop/web stopped 5-6 1 calls`,
		"native parents, sampled and not": `
			0  +1 NodePublishVolume web v1     | start
			1  +1 RunPodSandbox    web s1 native | native>start
			2  +1 CreateContainer  web app@c1 unsampled UNKNOWN | start
			3  +1 CreateContainer  web app@c1 unsampled | start
			4  +1 StartContainer   web app@c1 native | native>start
			5  +1 ExecSync         web app@c1 native | native>start
			5  +1 ExecSync         web app@c1 unsampled UNKNOWN | native>start
			5  +1 Version          -   -      unsampled | native
			tick 25 | pod start shop/web started 0-5 5 calls 1 failed; pod start shop/web failing CreateContainer x1`,
		"no UID: a volume, a sandbox, a container are enough": `
			0  +1 NodeStageVolume  -   v1 UNKNOWN | own
			1  +2 NodeStageVolume  -   v1      | own
			4  +1 NodePublishVolume web v1 nameless UNKNOWN | start
			5  +1 NodeStageVolume  -   v1      | start
			6  +1 RunPodSandbox    web s1      | start
			7  +1 PodSandboxStatus -   s1      | own>start
			8  +1 CreateContainer  web app@c1  | start
			9  +1 StartContainer   -   app@c1  | start
			tick 29 | pod start u-web failing NodePublishVolume x2
			30 +1 NodePublishVolume web v1     | start
			tick 60 | pod start shop/web started 0-10 8 calls 2 failed
			60 +1 StopPodSandbox   -   s1      | stop
			61 +1 NodeUnpublishVolume -  v1    | own
			62 +1 NodeUnpublishVolume web v1   | stop
			63 +1 NodeUnstageVolume -  v1      | stop
			64 +1 NodeStageVolume  -   v1      | own`,
		"a volume that another pod could not have, an hour before": `
			0    +1 NodeStageVolume  -   v1 INTERNAL | own
			3600 +1 NodeStageVolume  -   v1 INTERNAL | own
			3602 +1 NodeStageVolume  -   v1          | own
			3604 +1 NodePublishVolume web v1         | start
			3605 +1 RunPodSandbox    web s1          | start
			3606 +1 CreateContainer  web app@c1      | start
			3607 +1 StartContainer   web app@c1      | start
			tick 3630 | pod start shop/web started 3600-3608 6 calls 1 failed`,
		"a volume that another pod could not have, and that was unstaged": `
			0    +1 NodeStageVolume   -   v1 INTERNAL | own
			10   +1 NodeUnstageVolume -   v1          | own
			60   +1 NodeStageVolume   -   v1          | own
			61   +1 NodePublishVolume web v1          | start
			62   +1 RunPodSandbox     web s1          | start
			64   +1 StartContainer    web app@c1      | start
			tick 90 | pod start shop/web started 60-65 4 calls`,
		"only a driver is tapped, and a list says the pod's name": `
			0  +1 NodePublishVolume web v1 nameless | start
			named web
			tick 23 | pod start shop/web unfinished 0-1 1 calls`,
		"several pods at once": `
			0  +1 RunPodSandbox    web s1      | start
			0  +1 RunPodSandbox    db  s2      | start
			1  +1 CreateContainer  db  app@c2  | start
			1  +1 CreateContainer  web app@c1  | start
			2  +1 StartContainer   -   app@c2  | start
			3  +1 StartContainer   -   app@c1  | start
			5  +1 StopContainer    db  app@c2  | stop
			tick 24 | pod start shop/db started 0-3 3 calls; pod start shop/web started 0-4 3 calls`,
		"the end of the session": `
			0  +1 RunPodSandbox    web s1      | start
			0  +1 RunPodSandbox    db  s2      | start
			1  +1 StartContainer   web app@c1  | start
			0  +1 StopContainer    etcd app@c9 | stop
			close 5 | pod stop shop/etcd unfinished 0-5 1 calls; pod start shop/db unfinished 0-5 1 calls; pod start shop/web started 0-2 2 calls
			close 6 |`,
		"calls that are none of these": `
			0  +1 ListContainers   -   -       | own
			0  +1 StopContainer    -   app@c9  | own
			0  +1 NodeUnstageVolume -  v9      | own
			0  +1 RemovePodSandbox web s1      | own
			0  +1 ExecSync         web app@c1  | own
			tick 99 |`,
	} {
		t.Run(name, func(t *testing.T) { play(t, text) })
	}
}
