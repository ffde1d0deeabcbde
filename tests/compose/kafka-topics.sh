#!/bin/bash
# The script of that name in Apache's image.
exec "$JAVA_HOME/bin/java" -Xmx200m -cp '/jars/*' org.apache.kafka.tools.TopicCommand "$@"
