// Command holdfast is a payment gateway for two-stage payments: the server, a simulator of the
// processing centres, a demonstration of both, and the tools of whoever runs it.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	_ "time/tzdata" // times on the wire are Tashkent's, on any machine

	"github.com/alecthomas/kong"

	"holdfast/internal/merchant"
	"holdfast/internal/store"
	"holdfast/internal/vault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := program{stdout: os.Stdout, stderr: os.Stderr}.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// program is the command as a value, so that a test can start it.
type program struct {
	stdout, stderr io.Writer
}

// cli is every command and flag.
type cli struct {
	Config configFile `help:"File with flags as JSON: {\"listen\": \"127.0.0.1:9000\", \"serve\": {\"hold-timeout\": \"1h\"}}." type:"existingfile" placeholder:"FILE"`

	ShowVersion versionFlag `name:"version" env:"-" hidden:""` // many type it by habit

	Serve        serveCmd        `cmd:"" help:"Serve payments: the merchant API and the payer's pages."`
	Sim          simCmd          `cmd:"" help:"Simulate the processing centres: cards, SMS, books and bad days."`
	Demo         demoCmd         `cmd:"" help:"Run gateway, simulator and a small shop, to click through or to watch."`
	Shop         shopCmd         `cmd:"" help:"Create, list and change the shops that take payments."`
	Ranges       rangesCmd       `cmd:"" help:"Show and change the card range table: which card numbers are of which scheme."`
	Payment      paymentCmd      `cmd:"" help:"List payments, or tell everything about one."`
	Notification notificationCmd `cmd:"" help:"List the notifications that shops have not taken, or have one sent again."`
	Doubt        doubtCmd        `cmd:"" help:"List the operations whose outcome is not known, have one asked about, or say how it ended."`
	Audit        auditCmd        `cmd:"" help:"Derive everything again from the stored facts and compare."`
	Backup       backupCmd       `cmd:"" help:"Copy the whole store into one file, also while the gateway serves."`
	Restore      restoreCmd      `cmd:"" help:"Make a data directory of a backup."`
	Recovered    recoveredCmd    `cmd:"" help:"Say that a store was brought back to an earlier time by other means than restore."`
	Bench        benchCmd        `cmd:"" help:"Measure whole payments a second, and check the books afterwards."`
	Plot         plotCmd         `cmd:"" help:"Draw what bench has measured."`
	Migrate      migrateCmd      `cmd:"" help:"Bring the schema of a store up to date, or tell which it has."`
	Copy         copyCmd         `cmd:"" help:"Copy a store from its file into a database of PostgreSQL."`
	Version      versionCmd      `cmd:"" help:"Print the version."`
}

// data is the flags that all commands on a store share.
type data struct {
	Data string `help:"Data directory: the store and its key." default:"holdfast-data" placeholder:"DIR"`
	DB   string `name:"db" help:"Keep the store in this database of PostgreSQL; the data directory then holds the key alone. With a password better given as HOLDFAST_DB. Default: a file in the data directory." placeholder:"postgres://USER:PASSWORD@HOST/NAME"`
}

// open opens the store and its vault.
func (d data) open(serve bool, log *slog.Logger) (*store.Store, *vault.Vault, error) {
	s, err := store.Open(store.Config{Dir: d.Data, DB: d.DB, Serve: serve, Log: log})
	if err != nil {
		return nil, nil, err
	}
	v, err := openVault(s, d.Data)
	if err == nil {
		err = checkKey(s, v, filepath.Join(d.Data, keyFile))
	}
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return s, v, nil
}

// openVault opens the vault of a store, and makes its key if the store is used with none yet: who names the wrong directory shall
// find none of another key there. Of several that start together on a new store, each makes or reads the key before it is noted.
func openVault(s *store.Store, dir string) (*vault.Vault, error) {
	file := filepath.Join(dir, keyFile)
	noted, shops, err := keyInUse(s)
	if err != nil {
		return nil, err
	}
	if !noted && len(shops) == 0 {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("the data directory cannot be made: %w", err)
		}
		return vault.Open(file)
	}
	v, err := vault.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s is missing, and this store is used with a key already: check --data, or copy the file from your backup or from another gateway of the store", file)
	}
	return v, err
}

// keyInUse tells whether the store has noted which key it is used with. Where it has not, as a file that an earlier version made,
// shops are those whose unique keys are sealed with one.
func keyInUse(s *store.Store) (noted bool, shops []merchant.Shop, err error) {
	if noted, err = s.HasKey(context.Background()); noted || err != nil {
		return noted, nil, err
	}
	shops, err = s.Shops(context.Background())
	return false, shops, err
}

// checkKey makes sure that a store is always used with the same key: with another, what the first has sealed could not be read.
func checkKey(s *store.Store, v *vault.Vault, file string) error {
	key, err := v.Key("fingerprint")
	if err != nil {
		return err
	}
	noted, shops, err := keyInUse(s)
	if err != nil {
		return err
	}
	same := true
	if !noted && len(shops) > 0 {
		_, sealed := uniqueKey(v, shops[0])
		same = sealed == nil
	}
	if same {
		same, err = s.SameKey(context.Background(), hex.EncodeToString(key[:8]))
	}
	if err == nil && !same {
		err = fmt.Errorf("%s is not the key that this store is used with: copy the file from your backup or from another gateway of the store", file)
	}
	return err
}

// onStore runs f on a store that is there, beside serving gateways or without one. Who names the wrong place is told so,
// and not that all is well with a new, empty store.
func (d data) onStore(f func(*store.Store, *vault.Vault) error) error {
	if err := d.isThere(); err != nil {
		return err
	}
	return d.onAnyStore(f)
}

func (d data) isThere() error {
	at, _, err := store.Schema(context.Background(), store.Config{Dir: d.Data, DB: d.DB})
	if err != nil {
		return err
	}
	if at == 0 {
		place := d.Data
		if d.DB != "" {
			place = "the database that --db names"
		}
		return fmt.Errorf("there is no store in %s: check --data and --db; serve and shop create make a new one", place)
	}
	return nil
}

// onAnyStore is onStore that makes the store where there is none.
func (d data) onAnyStore(f func(*store.Store, *vault.Vault) error) error {
	s, v, err := d.open(false, nil)
	if err != nil {
		return err
	}
	return errors.Join(f(s, v), s.Close())
}

// onServingStore is onStore for what only a serving process may do.
func (d data) onServingStore(f func(*store.Store, *vault.Vault) error) error {
	s, v, err := d.open(true, nil)
	if err != nil {
		return err
	}
	return errors.Join(f(s, v), s.Close())
}

const about = `A payment gateway for two-stage payments: hold the payer's money, then confirm
all or part of it, or let it go.

Every flag can also be given as an environment variable HOLDFAST_FLAG_NAME or in the --config file;
the command line wins over the environment, and the environment over the file.

  holdfast demo                                      try everything on this machine
  holdfast sim --listen 127.0.0.1:8090               the processing centre, for development
  holdfast serve --data /var/lib/holdfast --sim http://127.0.0.1:8090
  holdfast shop create --data /var/lib/holdfast --name "My shop" --notify-url https://shop.example/notify`

// run executes one command and returns the exit status: 0 as wished, 1 it did not work, 2 it was
// called wrongly.
func (p program) run(ctx context.Context, args []string) (code int) {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("holdfast"), kong.Description(about), kong.UsageOnError(),
		kong.Writers(p.stdout, p.stderr), kong.Exit(func(code int) { exited = code; panic(errExit) }),
		kong.DefaultEnvars("HOLDFAST"), kong.Configuration(loadConfig),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}), kong.ValueFormatter(explain), kong.Bind(p),
	)
	if err != nil {
		fmt.Fprintln(p.stderr, "holdfast:", err)
		return 2
	}
	defer func() {
		if r := recover(); r != nil {
			if r != errExit {
				panic(r)
			}
			code = exited
		}
	}()
	chosen, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(p.stderr, "holdfast: %v\nTry holdfast --help, or --help after the command.\n", err)
		return 2
	}
	chosen.BindTo(ctx, (*context.Context)(nil))
	if err := chosen.Run(); err != nil {
		if !errors.Is(err, errSaid) {
			fmt.Fprintln(p.stderr, "holdfast:", err)
		}
		return 1
	}
	return 0
}

var errExit = errors.New("exit")

// explain is what --help says of a flag or an argument. Where a word stands for a flag's value, kong does not show the default.
func explain(v *kong.Value) string {
	shown := *v
	if v.Flag != nil && v.Flag.PlaceHolder != "" && v.Default != "" {
		shown.Help = strings.TrimSuffix(v.Help, ".") + "; default: " + v.Default + "."
	}
	return kong.DefaultHelpValueFormatter(&shown)
}

// errSaid is an error that has been told already.
var errSaid = errors.New("said")

// print writes a value as one line of JSON.
func (p program) print(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s\n", line)
	return err
}

// logging is how a long-running command logs.
type logging struct {
	LogLevel  string `help:"What to log: debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
	LogFormat string `help:"How to log: text or json." enum:"text,json" default:"text"`
}

func (l logging) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.LogLevel)); err != nil {
		panic(err) // kong has checked the words
	}
	options := &slog.HandlerOptions{Level: level}
	if l.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

type versionCmd struct {
	JSON bool `help:"As JSON."`
}

// built is which version this is, and what it was built with.
func built() (version, goVersion string) {
	version = "development"
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = info.GoVersion
		if v := info.Main.Version; v != "" && v != "(devel)" {
			version = v
		}
	}
	return version, goVersion
}

func (c versionCmd) Run(p program) error {
	version, goVersion := built()
	if c.JSON {
		return p.print(map[string]string{"version": version, "go": goVersion})
	}
	_, err := fmt.Fprintf(p.stdout, "holdfast %s (%s)\n", version, goVersion)
	return err
}

// versionFlag is --version, which ends the program as --help does.
type versionFlag bool

func (versionFlag) BeforeReset(app *kong.Kong, p program) error {
	if err := (versionCmd{}).Run(p); err != nil {
		return err
	}
	app.Exit(0)
	return nil
}

// configFile is the --config flag.
type configFile = kong.ConfigFlag

// loadConfig reads the --config file: flags at the top level are for every command, those below a
// command's name for it alone. A key that is no flag is an error.
func loadConfig(r io.Reader) (kong.Resolver, error) {
	var values map[string]any
	decoder := json.NewDecoder(r)
	decoder.UseNumber()
	if err := decoder.Decode(&values); err != nil {
		return nil, fmt.Errorf("the config file is not a JSON object: %w", err)
	}
	return config(values), nil
}

type config map[string]any

func (c config) Validate(app *kong.Application) error {
	for key, value := range c {
		below, isObject := value.(map[string]any)
		if !isObject {
			if !hasFlag(app.Node, key) {
				return fmt.Errorf("the config file has the key %q, which is no flag: see holdfast --help", key)
			}
			continue
		}
		i := indexOf(app.Children, key)
		if i < 0 {
			return fmt.Errorf("the config file has the key %q, which is no command: see holdfast --help", key)
		}
		for flag := range below {
			if !hasFlag(app.Children[i], flag) {
				return fmt.Errorf("the config file has the key %q below %q, which is no flag of that command", flag, key)
			}
		}
	}
	return nil
}

func indexOf(nodes []*kong.Node, name string) int {
	for i, n := range nodes {
		if n.Name == name {
			return i
		}
	}
	return -1
}

// hasFlag reports whether a command, or one below it, has a flag.
func hasFlag(n *kong.Node, name string) bool {
	for _, f := range n.Flags {
		if f.Name == name {
			return true
		}
	}
	for _, child := range n.Children {
		if hasFlag(child, name) {
			return true
		}
	}
	return false
}

// Resolve gives the file's value of a flag, unless the environment has one: it is nearer to the person.
func (c config) Resolve(ctx *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	command, _, _ := strings.Cut(ctx.Command(), " ")
	if below, ok := c[command].(map[string]any); ok {
		if value, ok := below[flag.Name]; ok {
			return value, nil
		}
	}
	if value, ok := c[flag.Name]; ok {
		return value, nil
	}
	return nil, nil
}
