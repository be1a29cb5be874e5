package host

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// systemdRuns: systemd is the machine's first process (sd_booted(3)).
func (m *Machine) systemdRuns() bool {
	fi, err := os.Lstat(m.in("/run/systemd/system"))
	return err == nil && fi.IsDir()
}

// startUnit starts a transient unit: it ends with the machine at the latest, leaves
// no file, and once its process has ended well, nothing at all.
func (m *Machine) startUnit(ctx context.Context, name, description string, argv []string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := m.dial(ctx)
	if err != nil {
		return fmt.Errorf("ask systemd to start %s: %w", name, err)
	}
	defer conn.Close()
	done := make(chan string, 1)
	if _, err := conn.StartTransientUnitContext(ctx, name+".service", "fail", properties(description, argv), done); err != nil {
		return fmt.Errorf("ask systemd to start %s: %w", name, err)
	}
	select {
	case how := <-done:
		if how != "done" {
			return fmt.Errorf("systemd did not start %s (%s); journalctl -u %[1]s on the node says why; if systemd may not execute %s there (SELinux), %s", name, how, argv[0], elsewhere)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("systemd was asked to start %s, and did not say that it has: %w", name, ctx.Err())
	}
}

// patience is how long systemd may take: it may stand still, or be started anew, and
// forget who asked.
const patience = 10 * time.Second

// properties are those of deploy/systemd/grpc-tap-relay@.service that matter to a
// process that the lease ends.
func properties(description string, argv []string) []systemd.Property {
	set := func(name string, value any) systemd.Property {
		return systemd.Property{Name: name, Value: dbus.MakeVariant(value)}
	}
	return []systemd.Property{
		systemd.PropDescription(description),
		// False, whatever that parameter is called: systemd takes it for "ignore failure", and
		// one whose failure is ignored is not started again.
		systemd.PropExecStart(argv, false),
		set("Type", "exec"),
		// What was killed is started again. What ended by itself has removed its executable:
		// to start that again is for who started it, and may be gone for good.
		set("Restart", "on-abnormal"), set("RestartUSec", uint64(2_000_000)),
		set("StartLimitIntervalUSec", uint64(0)),
		// Those that it took the place of end by themselves.
		set("KillMode", "process"),
		set("TimeoutStopUSec", uint64(135_000_000)),
		set("CollectMode", "inactive-or-failed"),
		set("OOMScoreAdjust", int32(-998)), set("OOMPolicy", "continue"),
		set("LimitCORE", uint64(0)), set("LimitNOFILE", uint64(65536)),
		set("UMask", uint32(0o077)),
	}
}

// dial connects to systemd, until ctx is done.
func (m *Machine) dial(ctx context.Context) (*systemd.Conn, error) {
	return systemd.NewConnection(func() (*dbus.Conn, error) {
		conn, err := dbus.Dial("unix:path="+m.in("/run/systemd/private"), dbus.WithContext(ctx))
		if err != nil {
			return nil, err
		}
		if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	})
}
