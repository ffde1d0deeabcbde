import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;

/** Runs one OpenSearch node with modules of its distribution. Arguments: a folder, the HTTP port, the transport port. */
public class Server {
    private static final List<String> MODULES = List.of(
        "transport.Netty4Plugin", "ingest.common.IngestCommonPlugin", "painless.PainlessPlugin",
        "analysis.common.CommonAnalysisPlugin", "index.mapper.MapperExtrasPlugin", "script.mustache.MustachePlugin");

    private static class TestNode extends Node {
        TestNode(Environment environment, Collection<Class<? extends Plugin>> plugins) {
            super(environment, plugins, true);
        }
    }

    public static void main(String[] args) throws Exception {
        Path config = Files.createDirectories(Path.of(args[0], "config"));
        Settings settings = Settings.builder()
            .put("path.home", args[0]).put("node.name", "one").put("cluster.name", "tests").put("discovery.type", "single-node")
            .put("network.host", "127.0.0.1").put("http.port", args[1]).put("transport.port", args[2])
            .put("http.type", "netty4").put("transport.type", "netty4")
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .build();
        List<Class<? extends Plugin>> plugins = new ArrayList<>();
        for (String module : MODULES) plugins.add(Class.forName("org.opensearch." + module).asSubclass(Plugin.class));
        new TestNode(new Environment(settings, config), plugins).start();
        Thread.currentThread().join();
    }
}
